"""Hardening: from a classifier and images to a defence that is measured, audited and exported, within a given time."""

from carso.hardening.conclusion import conclusion
from carso.hardening.hardening import Found, Hardening
from carso.hardening.plan import Plan, Request

__all__ = ["Found", "Hardening", "Plan", "Request", "conclusion"]

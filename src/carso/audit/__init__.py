"""Audits: attack a defence as a whole, and say what is left and whether to believe it."""

from carso.audit.audit import audit
from carso.audit.loading import load_target
from carso.audit.results import Audit, read_audit

load_subject = load_target

__all__ = ["Audit", "audit", "load_subject", "load_target", "read_audit"]

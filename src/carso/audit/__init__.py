"""Audits: attack a defence as a whole, and say what is left and whether to believe it."""

from carso.audit.audit import audit
from carso.audit.findings import Audit, read_audit
from carso.audit.subject import load_subject

__all__ = ["Audit", "audit", "load_subject", "read_audit"]

"""Audits: attack a defence as a whole, and say what is left and whether to believe it."""

from carso.audit.audit import audit
from carso.audit.keeping import Worst, read_worst
from carso.audit.loading import load_target
from carso.audit.results import Audit, read_audit

load_subject = load_target

__all__ = ["Audit", "Worst", "audit", "load_subject", "load_target", "read_audit", "read_worst"]

"""May this teacher's answers train this student? Terms of services and licences of weights, judged by the declared use.

Pure: the catalogue is parsed from text that the caller has read, and the day is an argument. Asked at reconcile by the operator, at each
dispatch by the gateway, and by `distill plan`.
"""

from .catalogue import BadCatalogue, Catalogue, Entry, parse_catalogue
from .judge import judge, reason_of

__all__ = ["BadCatalogue", "Catalogue", "Entry", "judge", "parse_catalogue", "reason_of"]

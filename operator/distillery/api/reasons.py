"""Condition types and reasons: the words that scripts and people match on."""

from __future__ import annotations

from typing import Final

VALIDATED: Final = "Validated"
BUDGET_RESERVED: Final = "BudgetReserved"
QUOTA_RESERVED: Final = "QuotaReserved"
TRACES_READY: Final = "TracesReady"
TRAINED: Final = "Trained"
EVALUATED: Final = "Evaluated"
EXPORTED: Final = "Exported"
PUBLISHED: Final = "Published"
SUSPENDED: Final = "Suspended"
SUCCEEDED: Final = "Succeeded"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
#: Every condition is set, Unknown at first, in the first pass.
CONDITIONS: Final = (
    VALIDATED, BUDGET_RESERVED, QUOTA_RESERVED, TRACES_READY, TRAINED, EVALUATED, EXPORTED, PUBLISHED, SUSPENDED, SUCCEEDED, RECONCILING, STALLED,
)  # fmt: skip

# -- of the job
PENDING: Final = "Pending"
RUNNING: Final = "Running"
DONE: Final = "Done"
REUSED: Final = "Reused"
NOT_PLANNED: Final = "NotPlanned"
INVALID_SPEC: Final = "InvalidSpec"
NAME_CONFLICT: Final = "NameConflict"
WAITING: Final = "Waiting"
WAITING_FOR_QUOTA: Final = "WaitingForQuota"
SUSPENDING: Final = "Suspending"
BY_USER: Final = "SuspendedByUser"
RESUMED: Final = "Resumed"
CANCELLED: Final = "Cancelled"
DEADLINE_EXCEEDED: Final = "DeadlineExceeded"
BACKOFF_LIMIT_EXCEEDED: Final = "BackoffLimitExceeded"
NO_PROGRESS: Final = "NoProgress"
PREEMPTED: Final = "Preempted"
FAILED: Final = "Failed"

# -- of BudgetReserved, Validated and the gateway's refusals (also the `code` of its errors, in snake case)
NOTHING_TO_BUY: Final = "NothingToBuy"
WAITING_FOR_PREFLIGHT: Final = "WaitingForPreflight"
WAITING_FOR_BUDGET: Final = "WaitingForBudget"
RELEASED: Final = "Released"
BUDGET_MISSING: Final = "BudgetMissing"
BUDGET_EXHAUSTED: Final = "BudgetExhausted"
BUDGET_PAUSED: Final = "BudgetPaused"
OVERRUN: Final = "Overrun"
TEACHER_UNKNOWN: Final = "TeacherUnknown"
PRICE_UNKNOWN: Final = "PriceUnknown"
TERMS_FORBID_USE: Final = "TermsForbidUse"
TERMS_UNKNOWN: Final = "TermsUnknown"
APPROVAL_NEEDED: Final = "ApprovalNeeded"
APPROVAL_EXPIRED: Final = "ApprovalExpired"
CREDENTIAL_MISSING: Final = "CredentialMissing"
CREDENTIAL_FORBIDDEN: Final = "CredentialForbidden"
BASE_URL_FORBIDDEN: Final = "BaseURLForbidden"
SCOPE_FORBIDDEN: Final = "ScopeForbidden"
LEDGER_READ_ONLY: Final = "LedgerReadOnly"
GATEWAY_UNAVAILABLE: Final = "GatewayUnavailable"
TEACHER_FAILED: Final = "TeacherFailed"
TEACHER_UNAVAILABLE: Final = "TeacherUnavailable"

# -- conditions of a TeacherBudget
READY: Final = "Ready"
EXHAUSTED: Final = "Exhausted"
SOFT_LIMIT_EXCEEDED: Final = "SoftLimitExceeded"
WITHIN_LIMITS: Final = "WithinLimits"
BUDGET_CONDITIONS: Final = (READY, EXHAUSTED, SOFT_LIMIT_EXCEEDED, STALLED)

# -- of stages that wait and go on by themselves (status.stages[].reason)
SECRET_MISSING: Final = "SecretMissing"
SERVICE_ACCOUNT_MISSING: Final = "ServiceAccountMissing"
VOLUME_UNAVAILABLE: Final = "VolumeUnavailable"
QUOTA_EXCEEDED: Final = "QuotaExceeded"
IMAGE_UNAVAILABLE: Final = "ImageUnavailable"
UNSCHEDULABLE: Final = "Unschedulable"
POD_REFUSED: Final = "PodRefused"

# -- of Events
STAGE_STARTED: Final = "StageStarted"
STAGE_SUCCEEDED: Final = "StageSucceeded"
STAGES_REUSED: Final = "StagesReused"
STAGE_RETRIED: Final = "StageRetried"
STAGE_INTERRUPTED: Final = "StageInterrupted"
STAGE_FAILED: Final = "StageFailed"

# -- of stages (StageResult.reason)
BAD_INPUT: Final = "BadInput"
ROWS_INVALID: Final = "RowsInvalid"
NOT_FOUND: Final = "NotFound"
ACCESS_DENIED: Final = "AccessDenied"
TOKENIZER_MISMATCH: Final = "TokenizerMismatch"
MODEL_UNREADABLE: Final = "ModelUnreadable"
UNSUPPORTED: Final = "Unsupported"
DOES_NOT_FIT: Final = "DoesNotFit"
DISK_FULL: Final = "DiskFull"
OUT_OF_MEMORY: Final = "OutOfMemory"
QUALITY_GATE_FAILED: Final = "QualityGateFailed"
STORE_UNAVAILABLE: Final = "StoreUnavailable"
INTERNAL_ERROR: Final = "InternalError"
TERMINATED: Final = "Terminated"

"""The error codes of AWS. They say more than the HTTP status: many services answer 400 whatever the matter is."""

from __future__ import annotations

from kagzi.model.error import ErrorKind

# As botocore's own retries have it (botocore/retries/standard.py).
_THROTTLING = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
    }
)
_KINDS = {
    "RequestTimeout": ErrorKind.TIMEOUT,
    "RequestTimeoutException": ErrorKind.TIMEOUT,
    "InternalError": ErrorKind.SERVICE_UNAVAILABLE,
    "InternalFailure": ErrorKind.SERVICE_UNAVAILABLE,
    "InternalServerError": ErrorKind.SERVICE_UNAVAILABLE,
    "ServiceUnavailable": ErrorKind.SERVICE_UNAVAILABLE,
    "ServiceUnavailableException": ErrorKind.SERVICE_UNAVAILABLE,
    "TransactionConflictException": ErrorKind.SERVICE_UNAVAILABLE,
    "AuthFailure": ErrorKind.PERMISSION_DENIED,
    "ExpiredToken": ErrorKind.PERMISSION_DENIED,
    "ExpiredTokenException": ErrorKind.PERMISSION_DENIED,
    "InvalidAccessKeyId": ErrorKind.PERMISSION_DENIED,
    "InvalidClientTokenId": ErrorKind.PERMISSION_DENIED,
    "NotAuthorizedException": ErrorKind.PERMISSION_DENIED,
    "SignatureDoesNotMatch": ErrorKind.PERMISSION_DENIED,
    "UnauthorizedOperation": ErrorKind.PERMISSION_DENIED,
    "UnrecognizedClientException": ErrorKind.PERMISSION_DENIED,
}
# What the services call these differs in the last word: NoSuchKey, ResourceNotFoundException, DBInstanceNotFound.
_NOT_FOUND = ("NotFound", "NotFoundException", "NotFoundFault", "DoesNotExist", "NonExistentQueue")


def kind_of_code(code: str) -> ErrorKind | None:
    """The kind that an error code stands for; None for one that says nothing about it.

    What is around the bare name is left aside: `com.amazonaws.sqs#QueueDoesNotExist:http://...`.
    """
    name = code.partition(":")[0].rpartition("#")[2].rpartition(".")[2]
    if name in _THROTTLING:
        return ErrorKind.RATE_LIMITED
    if name.startswith("AccessDenied"):
        return ErrorKind.PERMISSION_DENIED
    if name.startswith("NoSuch") or name.endswith(_NOT_FOUND):
        return ErrorKind.NOT_FOUND
    return _KINDS.get(name)

"""Why one file, or a whole job, failed."""

from __future__ import annotations

from mediasync import model
from mediasync.convert.basic import file_path
from mediasync.errors import reason_of
from mediasync.v1 import types_pb2 as pb


def problem_to_pb(problem: model.Problem) -> pb.Problem:
    """A problem."""
    message = pb.Problem(reason=problem.reason.value, message=problem.message, remedy=problem.remedy)
    if problem.path is not None:
        message.path.CopyFrom(file_path(problem.path))
    return message


def problem_from_pb(message: pb.Problem) -> model.Problem:
    """A problem."""
    path = message.path.raw if message.HasField("path") else None
    return model.Problem(reason_of(message.reason), message.message, message.remedy, path)

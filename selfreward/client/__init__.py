"""The typed client of the judge service. Loads httpx, tenacity and pydantic, nothing heavier."""

from selfreward.client.async_client import AsyncJudgeClient
from selfreward.client.calls import JudgeOptions, PromptLike
from selfreward.client.errors import (
    AuthenticationError,
    InvalidRequestError,
    JudgeConnectionError,
    JudgeError,
    JudgeProtocolError,
    JudgeTimeoutError,
    JudgmentFailedError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from selfreward.client.events import ScoreStreamItem, StreamItem
from selfreward.client.sync_client import JudgeClient
from selfreward.serving.admin_wire import VersionEntry, VersionHistory
from selfreward.serving.judge_wire import (
    InlineRubric,
    OrderReading,
    PairwiseJudgment,
    PairwiseRequest,
    RankJudgment,
    RankRequest,
    RationaleDelta,
    RationalePiece,
    ScoreJudgment,
    ScoreRequest,
    Standing,
    Usage,
    VoteCounts,
)
from selfreward.serving.wire import ChatMessage, JudgeVersion

__all__ = [
    "AsyncJudgeClient",
    "AuthenticationError",
    "ChatMessage",
    "InlineRubric",
    "InvalidRequestError",
    "JudgeClient",
    "JudgeConnectionError",
    "JudgeError",
    "JudgeOptions",
    "JudgeProtocolError",
    "JudgeTimeoutError",
    "JudgeVersion",
    "JudgmentFailedError",
    "NotFoundError",
    "OrderReading",
    "OverloadedError",
    "PairwiseJudgment",
    "PairwiseRequest",
    "PermissionDeniedError",
    "PromptLike",
    "RankJudgment",
    "RankRequest",
    "RateLimitError",
    "RationaleDelta",
    "RationalePiece",
    "ScoreJudgment",
    "ScoreRequest",
    "ScoreStreamItem",
    "ServerError",
    "Standing",
    "StreamItem",
    "Usage",
    "VersionEntry",
    "VersionHistory",
    "VoteCounts",
]

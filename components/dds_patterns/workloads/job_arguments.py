"""Arguments of workloads that run to completion."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, NotRequired, TypedDict

from dds_patterns.arguments import (
    DISTINCT,
    NOT_EMPTY,
    Default,
    DefaultsTo,
    between,
    matching,
    one_of,
)
from dds_patterns.arguments.constraints import Constraint
from dds_patterns.arguments.names import DnsLabel, LabelKey
from dds_patterns.pods.hosting import PodHosting
from dds_patterns.workloads.arguments import PodArgs

ACTIONS = {
    "fail_job": "FailJob", "fail_index": "FailIndex", "ignore": "Ignore", "count": "Count",
}  # fmt: skip
"""Actions for a failed pod, by the argument's name, with Kubernetes' name."""

# Kubernetes allows more, with limits on combinations.
_Pods = Annotated[int, between(1, 100_000)]
_INDEX = "(0|[1-9][0-9]{0,4})"
_INTERVAL = f"{_INDEX}(-{_INDEX})?"


def intervals(indexes: str) -> list[tuple[int, int]]:
    """The first and the last index of each interval: of ``0-2,5`` (0, 2) and (5, 5)."""
    pairs = (part.partition("-") for part in indexes.split(","))
    return [(int(first), int(last or first)) for first, _, last in pairs]


def _rising(indexes: str) -> bool:
    numbers = [int(number) for number in indexes.replace("-", ",").split(",")]
    return all(one < other for one, other in pairwise(numbers))


_Indexes = Annotated[
    str,
    matching(
        f"{_INTERVAL}(,{_INTERVAL})*", "indexes and intervals of them such as 0-2,5",
        most=64 * 1024, odd=("0-", "-2", "0,", "0-1-2", "0..2", "00", "0, 2", "all", "0\n"),
    ),
    Constraint("in rising order", _rising, ("2,1", "3-1", "0-2,2", "1-1")),
]  # fmt: skip


class SuccessRuleArgs(TypedDict):
    """Indexes whose success is enough for the whole Job."""

    succeeded_indexes: NotRequired[_Indexes]
    """Indexes that must have succeeded, below ``completions``. With ``succeeded_count`` that many of
    them are enough."""
    succeeded_count: NotRequired[_Pods]
    """Number of indexes that must have succeeded, whichever they are."""


class FailureRuleArgs(TypedDict):
    """The action for a pod that failed in a certain way."""

    action: Annotated[str, one_of(*ACTIONS)]
    """``fail_job``: the Job fails, its other pods are terminated. ``fail_index``: the index fails without
    further retries; it needs ``backoff_limit_per_index``. ``ignore``: the pod is retried, which does not
    count as a retry. ``count``: the retry counts, as without any rule."""
    exit_codes: NotRequired[
        Annotated[Sequence[Annotated[int, between(1, 255)]], NOT_EMPTY, DISTINCT]
    ]
    """The container exited with one of these codes."""
    exit_codes_not_in: NotRequired[
        Annotated[Sequence[Annotated[int, between(1, 255)]], NOT_EMPTY, DISTINCT]
    ]
    """The container exited with a code other than these and 0."""
    container: NotRequired[Annotated[DnsLabel, DefaultsTo("the application's")]]
    """Name of the container whose exit code it is."""
    pod_condition: NotRequired[LabelKey]
    """The pod has this condition. ``DisruptionTarget`` means that it was evicted, preempted or lost
    with its node: without a rule for it, such a failure is ignored."""


_CAUSES = {"exit_codes", "exit_codes_not_in", "pod_condition"}
_RULE = Constraint(
    "a rule for one of exit_codes, exit_codes_not_in (and a container if not the application's) and "
    "pod_condition",
    lambda rule: len(_CAUSES & {*rule}) == 1 and not {"container", "pod_condition"} <= {*rule},
    (
        {"action": "count"},
        {"action": "count", "container": "proxy"},
        {"action": "count", "exit_codes": [1], "exit_codes_not_in": [2]},
        {"action": "count", "exit_codes": [1], "pod_condition": "DisruptionTarget"},
        {"action": "count", "container": "proxy", "pod_condition": "DisruptionTarget"},
    ),
)
_SUCCESS = Constraint("a rule with succeeded_indexes, succeeded_count or both", bool, ({},))


def _at_most(rules: int, example: dict[str, object]) -> Constraint:
    return Constraint(
        f"at most {rules}", lambda given: len(given) <= rules, ([example] * (rules + 1),)
    )


class JobArgs(PodArgs):
    """One or more pods that run to completion."""

    timeout_seconds: NotRequired[Annotated[int, between(1, 604_800), Default(600)]]
    """Timeout of the Job in seconds, for all pods and retries together."""
    backoff_limit: NotRequired[
        Annotated[
            int,
            between(0, 1000),
            DefaultsTo("2, of a ScheduledTask 1; no limit with ``backoff_limit_per_index``"),
        ]
    ]
    """Retries: number of failed pods that are replaced. After one more failure the Job fails."""
    parallelism: NotRequired[Annotated[_Pods, Default(1)]]
    """Maximum number of pods at the same time."""
    completions: NotRequired[Annotated[_Pods, Default(1)]]
    """Number of pods that must succeed."""
    indexed: NotRequired[Annotated[bool, Default(False)]]
    """Whether each of the ``completions`` has an index from 0 on, which its containers read from
    ``JOB_COMPLETION_INDEX``, and one pod must succeed for each."""
    backoff_limit_per_index: NotRequired[Annotated[int, between(0, 1000)]]
    """With ``indexed``, instead of ``backoff_limit``: retries of each index. If one fails, the others go on,
    and the Job fails when all have finished."""
    max_failed_indexes: NotRequired[Annotated[int, between(0, 100_000), DefaultsTo("all")]]
    """With ``backoff_limit_per_index``: number of indexes that may fail while the others go on."""
    success_policy: NotRequired[
        Annotated[
            Sequence[Annotated[SuccessRuleArgs, _SUCCESS]],
            _at_most(20, {"succeeded_count": 1}),
            DefaultsTo("all indexes"),
        ]
    ]
    """With ``indexed``: the Job succeeds when one of these rules matches. Running pods are terminated."""
    pod_failure_policy: NotRequired[
        Annotated[
            Sequence[Annotated[FailureRuleArgs, _RULE]],
            # Kubernetes allows 20, of which one may be that for disruptions.
            _at_most(19, {"action": "count", "exit_codes": [1]}),
            Default(()),
        ]
    ]
    """Actions for failed pods; the first rule that matches applies. With any rule, a pod is replaced
    only after it has terminated."""
    ttl_seconds_after_finished: NotRequired[
        Annotated[int, between(0, 2**31 - 1), DefaultsTo("the Job stays")]
    ]
    """Seconds after it has finished until the Job is deleted, with its pods."""
    hosting: NotRequired[Annotated[PodHosting, Default({})]]
    """Namespace, labels, nodes and resources."""

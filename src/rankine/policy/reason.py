"""Why a decision was taken: a short code for metrics and traces; the words beside it are for people."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """One code a rule. A metric has one series for each, so codes are few and never carry figures."""

    __hash__ = str.__hash__  # an enum's own is a call of Python, and every decision is looked up several times

    # batching: why the batch ends where it ends
    IDLE = "idle"
    ALONE = "alone"
    ALL = "all"
    EFFICIENT = "efficient"
    LARGEST = "largest"
    URGENT = "urgent"
    NO_GAIN = "no_gain"
    SPLIT = "split"
    OTHER_RUNG = "other_rung"
    OWN_SIZE = "own_size"
    # what leaves the queue without an answer
    EXPIRED = "expired"
    HOPELESS = "hopeless"
    STANDING_QUEUE = "standing_queue"
    # admission
    ADMITTED = "admitted"
    PROBE = "probe"
    DRAINING = "draining"
    QUEUE_FULL = "queue_full"
    KEPT_SHORT = "kept_short"
    FRONT_END = "front_end"
    TOO_LATE = "too_late"
    OTHERS_LATE = "others_late"
    QUOTA = "quota"
    FAIR_SHARE = "fair_share"
    CONCURRENCY = "concurrency"
    PRIORITY = "priority"
    TRUNCATED = "truncated"
    WORKER_LOST = "worker_lost"
    # ladder
    STAY = "stay"
    STEP_DOWN = "step_down"
    STEP_UP = "step_up"
    FORCED_DOWN = "forced_down"
    DWELL = "dwell"
    SESSION = "session"
    # balance between the processes of a host
    HANDED_OVER = "handed_over"
    TAKEN_BACK = "taken_back"
    PROCESS_LOST = "process_lost"
    # placement
    ONLY = "only"
    LEAST_FINISH = "least_finish"
    SPREAD = "spread"
    EXPLORE = "explore"
    LEAVE = "leave"
    DEVICE_FAILED = "device_failed"

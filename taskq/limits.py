"""Every bound in taskq, with its reason. Units are in the names.

A bound that a peer can run into is told to it in the broker's greeting, or named in the refusal.
"""

from typing import Final

# -- the wire ---------------------------------------------------------------------------------

FRAME_HEADER_BYTES: Final = 4
# Before a peer has said who it is, it may cost us next to nothing.
FRAME_BYTES_MAX_BEFORE_HELLO: Final = 4 * 1024
# Large enough for a batch of ordinary jobs, small enough that one frame is decoded in milliseconds.
FRAME_BYTES_MAX: Final = 16 * 1024 * 1024
# A payload larger than this belongs in a file or an object store, with its address in the job.
PAYLOAD_BYTES_MAX: Final = 1024 * 1024
# Jobs, acks, ids in one message: bounds the time one message can keep the broker from the others.
BATCH_MAX: Final = 2_000
# What one frame may carry is split by the sender at this size, so that no frame nears its bound.
BATCH_BYTES_TARGET: Final = 1024 * 1024
# Attempts given in one turn of the loop: 4 ms. A worker with 100,000 slots would take up 130.
DELIVERIES_PER_TURN: Final = 2_000
# Names of tasks, queues, namespaces: they are shown to people and are keys of dicts.
NAME_CHARS_MAX: Final = 200
# Texts for people: reasons, refusals, progress.
TEXT_CHARS_MAX: Final = 2_000
# An exception's traceback; the middle is cut beyond this.
TRACEBACK_CHARS_MAX: Final = 32_000
TASKS_PER_WORKER_MAX: Final = 5_000
QUEUES_PER_WORKER_MAX: Final = 200
EXECUTORS_PER_WORKER_MAX: Final = 8
CHILDREN_PER_SUPERVISOR_MAX: Final = 1_000
FEATURES_MAX: Final = 64
# `ext` of a job: rare things (trace context, meta); not a second payload.
EXT_ITEMS_MAX: Final = 16
EXT_BYTES_MAX: Final = 4 * 1024
# A job's `key`: it is shown to people and is a key of dicts.
KEY_CHARS_MAX: Final = 200
# A job's `meta`, packed: texts for people, a part of its `ext`.
META_BYTES_MAX: Final = 2 * 1024
# Jobs above a job's parent that it names: in deeper trees, cancelling from the top reaches so far down.
ANCESTORS_MAX: Final = 15
# How many more turns one queue or key may have than another.
WEIGHT_MAX: Final = 1_000

# -- peers ------------------------------------------------------------------------------------

# A stranger gets this long to say hello.
HELLO_TIMEOUT_MS: Final = 10_000
# Every peer speaks at least this often; silence for SILENT_BEATS of them means it is gone.
BEAT_MS: Final = 5_000
SILENT_BEATS: Final = 2
# How often a supervisor vouches for its children, and how long the broker waits for its word
# about a child whose connection closed.
VOUCH_EVERY_MS: Final = 400
VOUCH_WAIT_MS: Final = 1_000
# After a broker restart, running jobs wait this long for their workers to come back.
RESUME_GRACE_MS: Final = 2_000
CONNECTIONS_MAX: Final = 20_000
# Connections that have not said hello: at most this many at once, so that strangers who say
# nothing cannot use up the descriptors of those who work.
STRANGERS_MAX: Final = 1_000
# A peer that does not read: above the first it gets no more deliveries, and is closed when it
# has not drained within the time, or at once above the second.
PEER_BUFFER_BYTES: Final = 1024 * 1024
PEER_BUFFER_BYTES_HARD: Final = 64 * 1024 * 1024
PEER_UNREAD_MS: Final = 10_000
# Commands read but not yet decided; beyond it the sockets are not read and TCP pushes back.
INBOX_BYTES_MAX: Final = 32 * 1024 * 1024
# And of one peer: some 100 ms of work. What it has beyond that waits at its own end.
PEER_INBOX_BYTES_MAX: Final = 4 * 1024 * 1024
# Reconnects: full jitter between zero and the step; the step doubles up to the maximum.
RECONNECT_FIRST_MS: Final = 50
RECONNECT_MAX_EARLY_MS: Final = 500  # in the first minute, so that a restarted broker gets its workers back
RECONNECT_EARLY_FOR_MS: Final = 60_000
RECONNECT_MAX_MS: Final = 5_000
CONNECT_TIMEOUT_MS: Final = 5_000
# How long a closing peer waits for the broker to have read its goodbye.
CLOSE_TIMEOUT_MS: Final = 1_000
CONFIRM_TIMEOUT_MS: Final = 30_000
# Submissions a client keeps for sending again; beyond it `submit` waits.
UNCONFIRMED_JOBS_MAX: Final = 100_000
# Of one executor: each is a coroutine and a future, 7 kB; beyond it its `submit` waits.
EXECUTOR_UNCONFIRMED_MAX: Final = 10_000

# -- jobs -------------------------------------------------------------------------------------

ATTEMPTS_MAX: Final = 100
# A crash says less about the job than a failure does (deploys and spot instances kill workers
# too), so crashes are counted apart; but a job that kills every worker must stop somewhere.
CRASHES_MAX: Final = 5
# Earlier leases of a job under which a late success still counts: a job that snoozes every few
# seconds for a year must not drag all of its past through every record.
PAST_LEASES_MAX: Final = 16
# What a job tells of its attempts that did not succeed: the first ones, which show what went wrong when
# all was new, and the last. One that is tried a hundred times must not be larger than its payload.
STORY_FIRST: Final = 3
STORY_LAST: Final = 13
# Characters of an error in a story; the last fault is kept whole beside it.
STORY_ERROR_CHARS: Final = 200
CRASH_BACKOFF_BASE_MS: Final = 1_000
CRASH_BACKOFF_MAX_MS: Final = 60_000
# The horizon of every delay, expiry and retention: ten years.
HORIZON_MS: Final = 10 * 365 * 24 * 3600 * 1000
# The worker ends a timed-out attempt itself; the broker steps in this much later.
TIMEOUT_BACKSTOP_MS: Final = 5_000
PRIORITY_MAX: Final = 100
# A point of priority counts as so much waiting: a hundred of them go before what came in the last
# hundred minutes, and nothing waits for ever.
PRIORITY_STEP_MS: Final = 60_000
# What a gate lets back into line in one turn, when it opens for many at once.
WAKES_PER_TURN: Final = 2_000
# Pauses, limits and weights that people set: a throttled key is one of them.
SETTINGS_MAX: Final = 100_000
# A rate limit above what one broker can deliver bounds nothing.
RATE_PER_S_MAX: Final = 1_000_000

# -- what is kept -----------------------------------------------------------------------------

KEEP_RESULT_MS: Final = 3_600_000
OUTCOME_BYTES_BUDGET: Final = 256 * 1024 * 1024
# What keeping one outcome costs beside its result: the job, its id, its place in the tables.
OUTCOME_OVERHEAD_BYTES: Final = 400
KEEP_DEAD_MS: Final = 7 * 24 * 3600 * 1000
# Submit sequences are remembered per session, so that a submission repeated after its outcome
# was forgotten is still recognised.
SESSIONS_MAX: Final = 100_000
SESSION_KEEP_MS: Final = 24 * 3600 * 1000
# Refused or held submissions that a session has not yet been seen to know about, as ranges of numbers.
SESSION_REFUSED_MAX: Final = 10_000
WATCHED_PER_PEER_MAX: Final = 1_000_000
# Distinct terms (task, queue, options) shared between jobs before the table starts again.
TERMS_CACHE_MAX: Final = 10_000

# Dead jobs wait for people, who read the first and the largest groups: the oldest go when there are
# more than this, or when what they carry (arguments, tracebacks) weighs more.
DEAD_JOBS_MAX: Final = 100_000
DEAD_BYTES_BUDGET: Final = 128 * 1024 * 1024

# -- looking for jobs -------------------------------------------------------------------------

# As many as there are.
FILTER_STATES_MAX: Final = 8
# Jobs in one page: a page is made in one turn.
PAGE_MAX: Final = 1_000
DEAD_GROUPS_MAX: Final = 1_000
# Searches that run at once: each holds the ids of all jobs, 8 MB for a million.
SEARCHES_MAX: Final = 16
SEARCHES_PER_PEER_MAX: Final = 4
# Jobs that searches look at in one turn, and of those, how many are changed: a few milliseconds.
SEARCH_SLICE: Final = 2_500
BULK_SLICE: Final = 500
# Ended jobs that wait for a commit before a search changes more: a batch is encoded in one go.
BULK_AHEAD: Final = 2_500
# Lists whose next pages are kept ready, and the ids in all of them: 16 MB.
LISTINGS_KEPT_MAX: Final = 8
LISTED_IDS_MAX: Final = 1_000_000

# -- inside a job -----------------------------------------------------------------------------

# A checkpoint says how far a job has come: a cursor and some totals. It stays in the broker's memory with
# its job, and is written to the journal each time.
CHECKPOINT_BYTES_MAX: Final = 64 * 1024
# Jobs that one attempt's success brings with it: they are decided and written in one turn.
OUTBOX_JOBS_MAX: Final = 1_000
OUTBOX_BYTES_MAX: Final = 2 * 1024 * 1024

# -- waiting for many -------------------------------------------------------------------------

# Jobs that `map` keeps without outcome where nobody says how many: some turns of a hundred workers' slots.
MAP_WINDOW: Final = 1_000
# Of what it was given back, out of order or not yet asked for, it keeps as many again: one that is slow
# must not make the others' slots idle.
MAP_KEPT: Final = 2

# -- schedules --------------------------------------------------------------------------------

CRON_CHARS_MAX: Final = 200
# Nothing fires more often: what does is a loop, and belongs into a task.
INTERVAL_MIN_MS: Final = 1_000
JITTER_MAX_MS: Final = 24 * 3600 * 1000
SCHEDULES_MAX: Final = 50_000
SCHEDULES_PER_WORKER_MAX: Final = 5_000
# Arguments of a scheduled job: written to the journal again with each one.
SCHEDULE_PAYLOAD_BYTES_MAX: Final = 64 * 1024
# A tick that nobody could make in its time still counts so much later, if no newer one is due: the
# nightly job must not be lost because the broker was restarting in that very second.
TICK_GRACE_MS: Final = 60_000
# `catch_up="all"` makes up for so many, the newest.
CATCH_UP_MAX: Final = 1_000
# Of one schedule in one turn: making up for a thousand must not hold up the loop.
TICKS_PER_TURN: Final = 50
# While the broker accepts no jobs, ticks wait: looked at again so often.
TICK_RETRY_MS: Final = 1_000
# Jobs of one schedule that somebody asked for, remembered beyond their outcomes: who did not hear the
# answer asks again within seconds.
RUNS_REMEMBERED: Final = 16
# Next times told of one schedule.
NEXT_TICKS_MAX: Final = 100

# -- intake -----------------------------------------------------------------------------------

# What a job without outcome costs in memory beside its payload and `ext`: measured, backlog.py.
JOB_OVERHEAD_BYTES: Final = 420
# Of a broker's memory budget, outcomes may always have this part; beyond it they make room for jobs.
OUTCOME_SHARE: Final = 8
# Submissions that wait for room in a bounded queue are kept in memory only; beyond this they are refused.
HELD_JOBS_MAX: Final = 200_000
HELD_BYTES_MAX: Final = 256 * 1024 * 1024
# Held submissions decided, and jobs dropped or cancelled beyond those asked for, in one turn.
ADMIT_SLICE: Final = 1_000
CANCEL_SLICE: Final = 1_000
# Queues with a bound: names come from peers.
BOUNDED_QUEUES_MAX: Final = 10_000
# Jobs that ran when their tree was cancelled, and might still submit children: the latest are remembered.
FELLED_MAX: Final = 10_000
# How long a client may be away before the jobs that are bound to it are cancelled.
BIND_GRACE_MS: Final = 10_000

# -- the journal ------------------------------------------------------------------------------

# Old batches are written again when the journal is more than twice its live bytes plus this.
COMPACT_SLACK_BYTES: Final = 64 * 1024 * 1024
# Live things written again in one turn: bounds what compaction adds to a turn.
COMPACT_SLICE: Final = 500
# A commit takes what has been decided up to this size; the rest waits for the next one.
COMMIT_BYTES_MAX: Final = 64 * 1024 * 1024
# Below this free space submissions are refused; outcomes are still recorded.
DISK_RESERVE_BYTES: Final = 64 * 1024 * 1024
JOURNAL_LOCK_WAIT_MS: Final = 5_000
# A checkpoint holds up commits for about 2 ms a MiB.
WAL_BYTES_MAX: Final = 16 * 1024 * 1024

# -- workers ----------------------------------------------------------------------------------

SLOTS_MAX: Final = 100_000
# Room beyond its slots that a worker announces while its jobs are tiny: their mean run time is below
# the first, it is given no more than it runs in the second, and no more than its slots again. A job's way to
# the worker and back takes a millisecond; 20 of them outlast a commit that is slow.
TINY_JOB_MS: Final = 5
EXTRA_MS: Final = 20
# And for each slot no more than this: `-c 1` is somebody's wish to have little at once. With one, 32 threads
# ran 0.64 of the jobs a second that the event loop does, with four 0.87: the way back and forth was longer
# than what they had.
EXTRA_PER_SLOT: Final = 4
# It is measured over this long, so that a worker does not announce all the time.
PACE_WINDOW_MS: Final = 1_000
# How often a worker looks at what waits for a slot: what did at the last look goes back, for the broker's
# backstop of its timeout counts from the delivery.
LINE_WAIT_MS: Final = 1_000
GRACE_MS: Final = 30_000
# What an app's lifespan gets to end when its jobs have used up all of the grace.
LEAVE_MS: Final = 1_000
# A lifespan may load a model for minutes, but people want to know what the worker is waiting for.
LIFESPAN_SLOW_MS: Final = 10_000
# An attempt that was told to stop may clean up for so long; then its process is replaced. Well below the
# broker's backstop, so that the worker's own words, which say more, come first.
STOP_GRACE_MS: Final = 3_000
# A process that has not told an attempt to stop so long after its time was up does not answer: its loop is
# blocked, and its supervisor ends it.
UNREACHED_MS: Final = 80
# A process that is stopped (SIGSTOP, a debugger left behind, a disk that hangs) for so long is replaced. As
# long as a host may be silent.
STANDSTILL_MS: Final = 10_000
# An event loop that does not turn for so long: everything else in the process stands still meanwhile.
SLOW_CALLBACK_MS: Final = 100
# Below this the watch itself would be what is seen.
SLOW_CALLBACK_LEAST_MS: Final = 10
# One task that blocks a thousand times is told once in this time; so many tasks and lines are known.
BLOCKING_TOLD_EVERY_MS: Final = 60_000
BLOCKINGS_REMEMBERED: Final = 1_000
CHILD_BACKOFF_FIRST_MS: Final = 100
CHILD_BACKOFF_MAX_MS: Final = 30_000
# A child that lived this long is no crash loop: the next one starts at once.
CHILD_STEADY_MS: Final = 10_000

# -- looking after workers ----------------------------------------------------------------------

# Workers in one list; those with all their tasks and jobs are larger, and asked for by name.
WORKERS_PER_PAGE: Final = 500
WORKERS_SHOWN_PER_PAGE: Final = 8
# Of the jobs that one holds; how many there are is told beside them.
RUNNING_SHOWN_MAX: Final = 100
# A process's stacks, for people to read; and of how many processes in one answer.
STACK_CHARS_MAX: Final = 100_000
STACKS_MAX: Final = 32
# Instructions on their way: each is remembered until it is answered, or for so long.
INSTRUCTIONS_MAX: Final = 64
INSTRUCTION_TIMEOUT_MS: Final = 5_000
# What a supervisor gives its processes to tell; those that have not by then are told of as silent.
STACK_WAIT_MS: Final = 3_000

# -- payloads (users' arguments and results) ----------------------------------------------------

PAYLOAD_DEPTH_MAX: Final = 64
# Items of one list or map: bounds what a few hostile bytes can make the parser allocate.
PAYLOAD_ITEMS_MAX: Final = 131_072
# Below this, compressing costs more than the bytes do; and it has to save so much, as a part of them.
COMPRESS_BYTES_MIN: Final = 1024
COMPRESS_SAVING: Final = 0.1
# What a decompressor may be made to allocate: 8 MiB, which the format's manual asks everyone to support.
ZSTD_WINDOW_LOG_MAX: Final = 23
# The name of a serializer is in every payload that is packed with it.
SERIALIZER_CHARS_MAX: Final = 32
# A signature as an error's text shows it.
SIGNATURE_CHARS_MAX: Final = 400

# -- telling: streams, events, logs -------------------------------------------------------------

# What the broker keeps of what one job has yielded, for consumers that come late or come back: a few
# seconds of a fast stream, all of most others.
STREAM_ENTRIES_MAX: Final = 10_000
STREAM_BYTES_MAX: Final = 4 * 1024 * 1024
# Of a job's events: enough for every attempt of most, and minutes of progress.
EVENT_ENTRIES_MAX: Final = 1_000
EVENT_BYTES_MAX: Final = 256 * 1024
# Of its log lines: the last ones, as a person would read them.
LOG_ENTRIES_MAX: Final = 1_000
LOG_BYTES_MAX: Final = 256 * 1024
# And of all jobs together; what was written to longest ago goes first.
FEEDS_BYTES_MAX: Final = 64 * 1024 * 1024
# Of a broker's memory budget, this part at most.
FEEDS_SHARE: Final = 16
# What a feed and a chunk of entries cost in memory beside their bytes, about.
FEED_OVERHEAD_BYTES: Final = 1_000
CHUNK_OVERHEAD_BYTES: Final = 250
# What a consumer is sent before it has said that it took what came earlier: some 10 ms at full speed.
FOLLOW_ENTRIES_MAX: Final = 2_000
FOLLOW_BYTES_MAX: Final = 1024 * 1024
FOLLOWS_PER_PEER_MAX: Final = 10_000
FOLLOWS_MAX: Final = 50_000
# What an attempt may have yielded that the broker has not yet said to have taken.
STREAM_AHEAD_ENTRIES: Final = 2_000
STREAM_AHEAD_BYTES: Final = 1024 * 1024
# Entries of a stream that stay together: the smaller they are, the more evenly a slow consumer holds
# the task back; at this size a chunk's own cost is a tenth of its items'.
CHUNK_ENTRIES: Final = 128
CHUNK_BYTES: Final = 64 * 1024
# So many items in a row from a generator that never waits, and the loop gets its turn.
STREAM_BREATH: Final = 512
# How long a consumer that takes nothing may hold a task back; and how long a worker without a broker
# does, before it gives up what it could not say.
STREAM_HOLD_MS: Final = 30_000
STREAM_ALONE_MS: Final = 35_000
# Progress and log lines go out at most so often, however often they change.
PROGRESS_EVERY_MS: Final = 50
LOGS_EVERY_MS: Final = 100
# Lines of one attempt, and characters of all attempts, that wait for that.
LOG_LINES_AHEAD: Final = 1_000
LOG_CHARS_AHEAD: Final = 1024 * 1024

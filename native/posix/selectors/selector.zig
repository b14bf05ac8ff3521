//! A poller's selector: the system's own, or poll.

const sys = @import("../sys.zig");
const scalable = if (sys.has_kqueue) @import("kqueue.zig") else @import("epoll.zig");
const poll = @import("poll.zig");
const events = @import("../../base/events.zig");
const status = @import("../../base/status.zig");

pub const Key = @import("key.zig").Key;
pub const Backend = scalable.Backend;

/// A watch over many sockets. `wait` is called without the library's lock, all else with it; so what `wait` needs of
/// the selector's state is copied into a `Snapshot` before.
pub const Selector = union(enum) {
    scalable: scalable.Selector,
    poll: poll.Poll,

    /// Reports the waker like a socket whose handle is 0.
    pub fn open(backend: Backend, waker: sys.Waker, failure: *status.Failure) status.Error!Selector {
        return switch (backend) {
            .poll => .{ .poll = try .open(waker) },
            else => .{ .scalable = try .open(waker, failure) },
        };
    }

    pub fn close(selector: *Selector) void {
        switch (selector.*) {
            inline else => |*one| one.close(),
        }
    }

    /// A descriptor for those outside, readable while the selector has something to report, its waker is signalled, or
    /// the time of its alarm has come.
    pub fn show(selector: *Selector, failure: *status.Failure) status.Error!i64 {
        return switch (selector.*) {
            .scalable => |*one| try one.show(failure),
            // It watches nothing but while a thread waits.
            .poll => error.Unsupported,
        };
    }

    /// Once it is shown: in so many nanoseconds, or never.
    pub fn setAlarm(selector: *Selector, from_now_ns: ?u64) void {
        selector.scalable.setAlarm(from_now_ns);
    }

    /// Starts to watch. The handle comes back in reports; what `key` points to must stay until `disarm`.
    pub fn arm(selector: *Selector, key: *Key, interest: events.Interest, failure: *status.Failure) status.Error!void {
        return switch (selector.*) {
            inline else => |*one| one.arm(key, interest, failure),
        };
    }

    /// False if the selector has lost it.
    pub fn rearm(selector: *Selector, key: *Key, interest: events.Interest) bool {
        return switch (selector.*) {
            inline else => |*one| one.rearm(key, interest),
        };
    }

    pub fn disarm(selector: *Selector, key: *Key) void {
        switch (selector.*) {
            inline else => |*one| one.disarm(key),
        }
    }

    /// Nothing needs to be done: every thread that waits sees what is reported.
    pub fn reportToOthers(_: *Selector) void {}

    /// Whether a wait that has found something, or whose time is up, ends with that. Nothing holds here that the kernel
    /// does not report at once.
    pub fn isOver(_: *const Selector, _: *Snapshot, _: events.Found) bool {
        return true;
    }

    /// Whether a thread that waits already must be told of a change, because its kernel does not know.
    pub fn changesNeedNotice(selector: *const Selector) bool {
        return switch (selector.*) {
            .scalable => false,
            .poll => true,
        };
    }

    /// Made in place: it is too large to be copied with every wait.
    pub fn snapshot(selector: *Selector, shot: *Snapshot) status.Error!void {
        switch (selector.*) {
            .scalable => |*one| shot.begin(one.fd),
            .poll => |*one| {
                // In a variable first: a failure in the middle of an assignment would leave half a snapshot.
                const made = try one.snapshot();
                shot.* = .{ .poll = made };
            },
        }
    }

    pub fn discard(selector: *Selector, shot: *Snapshot) void {
        switch (selector.*) {
            .scalable => {},
            .poll => |*one| one.discard(&shot.poll),
        }
    }

    /// One wait's own memory, and its reports.
    pub const Snapshot = union(enum) {
        scalable: scalable.Snapshot,
        poll: poll.Snapshot,

        /// Once in each wait.
        pub fn start(_: *Snapshot) void {}

        /// Without the lock.
        pub fn beginTurn(_: *Snapshot) void {}

        /// Without filling the room for reports first (see unfilled.zig).
        fn begin(shot: *Snapshot, fd: sys.Descriptor) void {
            @setRuntimeSafety(false);
            shot.* = .{ .scalable = .{ .fd = fd } };
        }

        /// Waits for reports, at most `reports_max` of them, and at most that long (null: for ever).
        pub fn wait(
            shot: *Snapshot,
            reports_max: usize,
            timeout_ns: ?u64,
            failure: *status.Failure,
        ) status.Error!void {
            return switch (shot.*) {
                inline else => |*one| one.wait(reports_max, timeout_ns, failure),
            };
        }

        /// How many of the waker's signals this wait has taken from others: none, for they last.
        pub fn signalsTaken(_: *const Snapshot) usize {
            return 0;
        }

        /// Whether the last wait has found nothing.
        pub fn isEmpty(shot: *const Snapshot) bool {
            return switch (shot.*) {
                inline else => |*one| one.isEmpty(),
            };
        }

        pub fn next(shot: *Snapshot) ?events.Report {
            return switch (shot.*) {
                inline else => |*one| one.next(),
            };
        }
    };
};

//! Waiting that learns whether to look before it sleeps: adaptive spinning.
//!
//! To sleep and be woken costs the processor more than most answers take, and on a virtual machine much more. A wait
//! that looks makes its own system call with a timeout of 0, again and again: the same set, so that nothing about
//! events, closing, waking and forks changes. It is right where the event comes soon, and wrong where it comes late, or
//! where the thread that is to bring it needs this processor. No number tells which: so each place that waits compares
//! what its waits took (base/spinner.zig).
//!
//! - A wait that was woken or interrupted teaches nothing, but that it looked in vain if it did.
//! - After one whose time was up, the next sleeps at once: a program that waits for nothing burns nothing.
//! - Of a wait that its caller cuts into pieces, the first alone looks. So a signal that comes while it looks, of which
//!   no system call tells, is late by no more than that piece.
//! - Where there is but one processor, or the time of less than two, no wait looks.
//!
//! What was tried besides, and is worse: a look of a fixed time (slow where both ends share a processor); to look as
//! long as the last waits were short (there they are short because they sleep); sched_yield(2) while looking; single
//! tries (one bad start is remembered for a hundred waits).

const std = @import("std");
const handles = @import("handles.zig");
const platform = @import("../platform.zig");
const Spinner = @import("../base/spinner.zig").Spinner;

const sys = platform.sys;

/// The most that a wait looks, as the program sets it. 0 is not at all.
var longest_ns: std.atomic.Value(u32) = .init(default_ns);

/// Where sleeping takes longer on average, looking gains little.
pub const default_ns = 200 * std.time.ns_per_us;
pub const longest_max_ns = std.time.ns_per_s;

pub fn setLongest(ns: u32) void {
    std.debug.assert(ns <= longest_max_ns);
    longest_ns.store(ns, .monotonic);
}

/// How a wait ended.
pub const Ending = enum { event, time_is_up, other };

/// One wait, as far as it is measured: a thread's own.
pub const Wait = struct {
    /// 0: nothing is measured.
    began_ns: u64 = 0,
    /// Whether it is a whole wait, as what it teaches is about.
    is_whole: bool = false,
    /// How long to look before sleeping.
    look_ns: u32 = 0,
    looked: bool = false,
    looked_ns: u64 = 0,

    /// A wait that may sleep begins, or goes on in another piece. With the library's lock held.
    pub fn begin(spinner: *const Spinner, goes_on: bool) Wait {
        const limit_ns = longest_ns.load(.monotonic);
        if (limit_ns == 0) return .{};
        const is_whole = !goes_on and !spinner.is_idle;
        return .{
            .began_ns = sys.monotonicNs(),
            .is_whole = is_whole,
            .look_ns = if (is_whole) spinner.lookNs(limit_ns) else 0,
        };
    }

    /// The wait has ended: with an event, because its time was up, or because it was woken or interrupted, or failed.
    /// With the library's lock held.
    pub fn end(wait: *const Wait, spinner: *Spinner, ending: Ending) void {
        if (wait.began_ns == 0) return;
        switch (ending) {
            .event => {
                spinner.is_idle = false;
                if (!wait.is_whole) return;
                const took_ns = sys.monotonicNs() -| wait.began_ns;
                if (wait.looked) spinner.learnLooked(took_ns, wait.looked_ns) else spinner.learnSlept(took_ns);
            },
            .time_is_up => {
                spinner.is_idle = true;
                spinner.trySoon();
                if (wait.looked) spinner.learnVain();
            },
            .other => if (wait.looked and wait.looked_ns >= wait.look_ns) spinner.learnVain(),
        }
    }

    /// Whether it looks before it sleeps. Once in each wait.
    pub fn looksFirst(wait: *Wait) bool {
        if (wait.look_ns == 0 or wait.looked) return false;
        wait.looked = processors.areSeveral(wait.began_ns);
        return wait.looked;
    }

    /// Whether to look once more, after a look that found nothing.
    pub fn looksAgain(wait: *Wait, deadline: sys.Deadline) bool {
        std.atomic.spinLoopHint();
        const now_ns = sys.monotonicNs();
        wait.looked_ns = now_ns -| wait.began_ns;
        return !deadline.hadPassedAt(now_ns) and wait.looked_ns < wait.look_ns;
    }
};

/// How many processors there are for this process and its peers: asked every ten seconds at the most.
const processors = struct {
    const ns_per_question = 10 * std.time.ns_per_s;
    /// In that unit and one more, since 0 is never.
    var asked_at: std.atomic.Value(u32) = .init(0);
    var several: std.atomic.Value(bool) = .init(false);

    fn areSeveral(now_ns: u64) bool {
        const now: u32 = @truncate(now_ns / ns_per_question + 1);
        if (asked_at.load(.monotonic) != now) {
            // It may open files, which a child must not have.
            handles.table.beginUnsettled();
            defer handles.table.endUnsettled();
            several.store(sys.usableProcessors() > 1, .monotonic);
            asked_at.store(now, .monotonic);
        }
        return several.load(.monotonic);
    }
};

const testing = std.testing;

/// Has learnt that looking is better.
const learnt: Spinner = .{ .state = .looking, .slept_ns = 50_000, .looked_ns = 1, .waits_left = 100 };

test "after a wait whose time was up, none looks until an event has come" {
    var spinner = learnt;
    const first: Wait = .begin(&spinner, false);
    try testing.expectEqual(31_250, first.look_ns);
    first.end(&spinner, .time_is_up);
    const second: Wait = .begin(&spinner, false);
    try testing.expectEqual(0, second.look_ns);
    const before = spinner.slept_ns;
    second.end(&spinner, .event);
    // It may have begun in the middle of what it waited for.
    try testing.expectEqual(before, spinner.slept_ns);
    try testing.expectEqual(31_250, Wait.begin(&spinner, false).look_ns);
}

test "a piece of a wait that goes on does not look" {
    const spinner = learnt;
    try testing.expectEqual(0, Wait.begin(&spinner, true).look_ns);
}

test "looks in vain are known for mistakes, whatever ended the waits" {
    for ([_]Ending{ .time_is_up, .other }) |ending| {
        var spinner = learnt;
        for (0..10) |_| {
            var wait: Wait = .begin(&spinner, false);
            if (wait.look_ns == 0) break;
            wait.looked = true;
            wait.looked_ns = wait.look_ns;
            wait.end(&spinner, ending);
            spinner.is_idle = false;
        } else return error.StillLooks;
    }
}

test "who is woken while it looks has not looked in vain" {
    var spinner = learnt;
    var wait: Wait = .begin(&spinner, false);
    wait.looked = true;
    wait.looked_ns = wait.look_ns - 1;
    wait.end(&spinner, .other);
    try testing.expectEqual(learnt, spinner);
}

test "off, nothing is measured" {
    defer setLongest(default_ns);
    setLongest(0);
    var spinner = learnt;
    const wait: Wait = .begin(&spinner, false);
    try testing.expectEqual(Wait{}, wait);
    wait.end(&spinner, .time_is_up);
    try testing.expectEqual(learnt, spinner);
    // Sleeping takes longer than that.
    setLongest(1_000);
    try testing.expectEqual(0, Wait.begin(&spinner, false).look_ns);
}

test "a look ends when its time is up, and never goes past the deadline" {
    var wait: Wait = .{ .began_ns = sys.monotonicNs(), .look_ns = 50_000, .looked = true };
    while (wait.looksAgain(.never)) {}
    try testing.expect(wait.looked_ns >= 50_000);
    wait = .{ .began_ns = sys.monotonicNs(), .look_ns = 1_000_000_000, .looked = true };
    const deadline: sys.Deadline = .after(100_000);
    while (wait.looksAgain(deadline)) {}
    try testing.expectEqual(0, deadline.remainingNs().?);
    try testing.expect(wait.looked_ns < wait.look_ns);
}

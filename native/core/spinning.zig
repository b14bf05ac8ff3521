//! Waiting that learns whether to look before it sleeps: adaptive spinning.
//!
//! To sleep and be woken costs the processor more than most answers take, and on a virtual machine much more. A wait
//! that looks makes its own system call with a timeout of 0, again and again: the same set, so that nothing about
//! events, closing, waking and forks changes. It is right where the event comes soon, and wrong where it comes late, or
//! where the thread that is to bring it needs this processor. No number tells which: so each place that waits compares
//! what its waits took.
//!
//! - A place keeps two means of what a wait takes from its start to its event: of those that slept at once, and of
//!   those that looked first. To the latter, half of the time that was spent looking is added: it is a cost too.
//! - A look lasts at most as long as sleeping takes on average. To have slept would have been as good then, so a wrong
//!   look costs no more than twice the wait.
//! - Tries find out: four waits in a row look. If they were clearly better, all do until they are no better. If not,
//!   the next try comes after twice as many waits.
//! - A wait that was woken or interrupted teaches nothing. After one whose time was up, the next sleeps at once: a
//!   program that waits for nothing burns nothing. And a signal that comes while a wait looks, which no system call
//!   tells of, is late by no more than that first piece of the wait.
//! - Where there is but one processor, or the time of less than two, nothing is tried.
//!
//! What was tried besides, and is worse: a look of a fixed time (slow where both ends share a processor); to look as
//! long as the last waits were short (there they are short because they sleep); sched_yield(2) while looking; single
//! tries (one bad start is remembered for a hundred waits).

const std = @import("std");
const platform = @import("../platform.zig");

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

const first_try_after = 4;
const tries_count = 4;
/// Waits between two tries.
const interval_min = 16;
const interval_max = 1024;
/// While waits look, one of this number sleeps at once, so that it is still known what that takes.
const looks_between_sleeps = 4096;
/// To have looked in fewer waits in a row was a mistake: where events come at random, four can come soon by chance. The
/// next try then comes after as many waits as if these had not been better.
const looks_worthwhile = 256;

/// What a place has learnt. Used with the library's lock held.
pub const Spinner = struct {
    /// Means in nanoseconds; 0 before the first.
    slept_ns: u32 = 0,
    looked_ns: u32 = 0,
    state: enum(u8) { sleeping, trying, looking } = .sleeping,
    /// The last wait found nothing in its time.
    is_idle: bool = false,
    /// Until the next try; or, of this try, to come; or until one sleeps.
    waits_left: u16 = first_try_after,
    /// How many waits are between this try and the next.
    interval: u16 = interval_min,

    /// A wait that may sleep begins.
    pub fn begin(spinner: *const Spinner) Wait {
        const limit_ns = longest_ns.load(.monotonic);
        if (limit_ns == 0) return .{};
        var wait: Wait = .{ .began_ns = sys.monotonicNs() };
        if (spinner.is_idle or spinner.slept_ns == 0 or spinner.slept_ns > limit_ns) return wait;
        const looks = switch (spinner.state) {
            .sleeping => false,
            .trying => true,
            .looking => spinner.waits_left > 0,
        };
        if (looks) wait.look_ns = spinner.slept_ns;
        return wait;
    }

    /// The wait has ended. One that was woken, interrupted or failed teaches nothing, and is not told.
    pub fn end(spinner: *Spinner, wait: Wait, outcome: enum { event, time_is_up }) void {
        if (wait.began_ns == 0) return;
        switch (outcome) {
            .event => {
                spinner.is_idle = false;
                const took_ns = sys.monotonicNs() -| wait.began_ns;
                if (wait.looked) spinner.learnLooked(took_ns, wait.looked_ns) else spinner.learnSlept(took_ns);
            },
            .time_is_up => spinner.is_idle = true,
        }
    }

    fn learnSlept(spinner: *Spinner, took_ns: u64) void {
        spinner.slept_ns = mean(spinner.slept_ns, took_ns, 8);
        switch (spinner.state) {
            .sleeping => {
                spinner.waits_left -|= 1;
                if (spinner.waits_left == 0) spinner.enter(.trying);
            },
            .trying => {},
            .looking => spinner.waits_left = looks_between_sleeps,
        }
    }

    fn learnLooked(spinner: *Spinner, took_ns: u64, looked_ns: u64) void {
        const cost_ns = took_ns +| looked_ns / 2;
        spinner.waits_left -|= 1;
        switch (spinner.state) {
            // Another thread's wait has ended what this one was a part of.
            .sleeping => {},
            .trying => {
                spinner.looked_ns = mean(spinner.looked_ns, cost_ns, 2);
                if (spinner.waits_left > 0) return;
                if (spinner.pays()) spinner.enter(.looking) else spinner.tryLater();
            },
            .looking => {
                spinner.looked_ns = mean(spinner.looked_ns, cost_ns, 8);
                if (spinner.pays()) return;
                if (looks_between_sleeps - spinner.waits_left < looks_worthwhile) return spinner.tryLater();
                spinner.interval = interval_min;
                spinner.enter(.sleeping);
            },
        }
    }

    /// Whether looking is better: clearly, to begin with it.
    fn pays(spinner: *const Spinner) bool {
        const enough_ns = if (spinner.state == .trying) spinner.slept_ns / 4 * 3 else spinner.slept_ns;
        return spinner.looked_ns < enough_ns;
    }

    fn tryLater(spinner: *Spinner) void {
        spinner.enter(.sleeping);
        spinner.interval = @min(spinner.interval * 2, interval_max);
    }

    fn enter(spinner: *Spinner, state: @FieldType(Spinner, "state")) void {
        spinner.state = state;
        spinner.waits_left = switch (state) {
            .sleeping => spinner.interval,
            .trying => tries_count,
            .looking => looks_between_sleeps,
        };
        if (state == .trying) spinner.looked_ns = 0;
    }
};

fn mean(before_ns: u32, new_ns: u64, weight: u32) u32 {
    const new: u32 = @intCast(std.math.clamp(new_ns, 1, std.math.maxInt(u32)));
    if (before_ns == 0) return new;
    return before_ns - before_ns / weight + new / weight;
}

/// One wait, as far as it is measured. Used by its own thread alone.
pub const Wait = struct {
    /// 0: nothing is measured.
    began_ns: u64 = 0,
    /// How long to look before sleeping.
    look_ns: u32 = 0,
    looked: bool = false,
    looked_ns: u64 = 0,

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
        const in_time = switch (deadline) {
            .never => true,
            .now => false,
            .at_ns => |at_ns| now_ns < at_ns,
        };
        return in_time and wait.looked_ns < wait.look_ns;
    }
};

/// How many processors there are for this process and its peers: asked once a second at the most.
const processors = struct {
    const ns_per_look = std.time.ns_per_s;
    /// In seconds and one more, since 0 is never.
    var asked_at: std.atomic.Value(u32) = .init(0);
    var several: std.atomic.Value(bool) = .init(false);

    fn areSeveral(now_ns: u64) bool {
        const now: u32 = @truncate(now_ns / ns_per_look + 1);
        if (asked_at.load(.monotonic) != now) {
            several.store(sys.usableProcessors() > 1, .monotonic);
            asked_at.store(now, .monotonic);
        }
        return several.load(.monotonic);
    }
};

const testing = std.testing;

/// A world in which to sleep takes so long, and in which an event comes to one who looks after so long; or never, while
/// it looks.
const World = struct {
    sleeping_ns: u32,
    comes_after_ns: ?u32,

    /// How many of the waits looked.
    fn run(world: World, spinner: *Spinner, waits_count: usize) usize {
        var looks_count: usize = 0;
        for (0..waits_count) |_| {
            const look_ns = spinner.begin().look_ns;
            looks_count += @intFromBool(look_ns > 0);
            if (look_ns == 0) {
                spinner.learnSlept(world.sleeping_ns);
            } else if (world.comes_after_ns != null and world.comes_after_ns.? <= look_ns) {
                spinner.learnLooked(world.comes_after_ns.?, world.comes_after_ns.?);
            } else {
                spinner.learnLooked(look_ns + world.sleeping_ns, look_ns);
            }
        }
        return looks_count;
    }

    const near: World = .{ .sleeping_ns = 60_000, .comes_after_ns = 4_000 };
    const shared: World = .{ .sleeping_ns = 5_000, .comes_after_ns = null };
    const far: World = .{ .sleeping_ns = 300_000, .comes_after_ns = 280_000 };
};

test "where looking is better, all but the first waits look, and one of thousands sleeps" {
    var spinner: Spinner = .{};
    try testing.expectEqual(0, World.near.run(&spinner, first_try_after));
    try testing.expectEqual(tries_count, World.near.run(&spinner, tries_count));
    try testing.expectEqual(.looking, spinner.state);
    try testing.expectEqual(looks_between_sleeps, World.near.run(&spinner, looks_between_sleeps + 1));
    try testing.expectEqual(looks_between_sleeps, World.near.run(&spinner, looks_between_sleeps + 1));
    // No longer than sleeping takes.
    try testing.expectEqual(60_000, spinner.begin().look_ns);
}

test "where looking is worse, tries become rare" {
    var spinner: Spinner = .{};
    _ = World.shared.run(&spinner, 4096);
    const looks_count = World.shared.run(&spinner, 100_000);
    try testing.expect(looks_count > 0);
    try testing.expect(looks_count < 500);
}

test "where sleeping takes long, no wait looks" {
    var spinner: Spinner = .{};
    try testing.expectEqual(0, World.far.run(&spinner, 10_000));
    // And it is noticed when that changes.
    _ = World.near.run(&spinner, 100);
    try testing.expectEqual(.looking, spinner.state);
}

test "it is noticed within a few waits that looking is no longer better" {
    for ([_]World{ .shared, .far }) |world| {
        var spinner: Spinner = .{};
        _ = World.near.run(&spinner, 10_000);
        try testing.expectEqual(.looking, spinner.state);
        try testing.expect(world.run(&spinner, 100) < 50);
        try testing.expect(spinner.state != .looking);
        // What was once right is tried again soon.
        _ = World.near.run(&spinner, 200);
        try testing.expectEqual(.looking, spinner.state);
    }
}

test "after a wait whose time was up, none looks until an event has come" {
    var spinner: Spinner = .{};
    _ = World.near.run(&spinner, 100);
    try testing.expect(spinner.begin().look_ns > 0);
    spinner.end(spinner.begin(), .time_is_up);
    const next = spinner.begin();
    try testing.expectEqual(0, next.look_ns);
    spinner.end(next, .event);
    try testing.expect(spinner.begin().look_ns > 0);
}

test "chance does not bring tries sooner" {
    // By chance, tries are better; in the long run, looking is not.
    var spinner: Spinner = .{};
    const lucky: World = .{ .sleeping_ns = 60_000, .comes_after_ns = 20_000 };
    const usual: World = .{ .sleeping_ns = 60_000, .comes_after_ns = 50_000 };
    for (0..20) |_| {
        while (spinner.state != .trying) _ = usual.run(&spinner, 1);
        while (spinner.state == .trying) _ = lucky.run(&spinner, 1);
        while (spinner.state == .looking) _ = usual.run(&spinner, 1);
    }
    try testing.expectEqual(interval_max, spinner.interval);
}

test "off, nothing is measured" {
    defer setLongest(default_ns);
    var spinner: Spinner = .{};
    _ = World.near.run(&spinner, 100);
    setLongest(0);
    const wait = spinner.begin();
    try testing.expectEqual(Wait{}, wait);
    const before = spinner;
    spinner.end(wait, .event);
    try testing.expectEqual(before, spinner);
    setLongest(1_000);
    // Sleeping takes longer than that.
    try testing.expectEqual(0, spinner.begin().look_ns);
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

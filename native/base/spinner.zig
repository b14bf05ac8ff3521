//! What a place that waits has learnt: whether a wait looks before it sleeps, and for how long. core/spinning.zig tells
//! what that is for.
//!
//! - Two means say what a wait takes from its start to its event: of the waits that slept at once, and of those that
//!   looked first. To the latter, half of the time that was spent looking is added: it is a cost too.
//! - A look lasts at most 5/8 of what sleeping takes on average. So a wrong look costs no more than that again.
//! - Tries find out: eight waits in a row look, or four if these are hopeless. If they were clearly better, all do
//!   until they are no better. If not, the next try comes after four times as many waits; but soon after a pause, and
//!   if sleeping begins to take much more, or much less.
//! - Where many looks are in vain, events come at random: to look gains little there, and burns what is between them.

const std = @import("std");

const first_try_after = 4;
const tries_count = 8;
/// After this number of them, a try that is no better than sleeping ends: the first may be slow because the other end
/// has slept.
const tries_before_hopeless = 4;
/// Waits between two tries.
const interval_min = 16;
const interval_max = 1024;
/// While waits look, one of this number sleeps at once, so that it is still known what that takes.
const looks_between_sleeps = 4096;
/// To have looked in fewer waits in a row was a mistake: where events come at random, some come soon by chance. The
/// next try then comes after as many waits as if these had not been better.
const looks_worthwhile = 256;
/// If more looks than these are in vain, no wait looks.
const vain_max = vain_all * 5 / 16;
const vain_all = 1024;
const vain_weight = 8;
/// By what factor sleeping takes more, or less, for a try to come soon.
const news_factor = 3;

/// What a place has learnt. Used with the library's lock held.
pub const Spinner = struct {
    /// Means in nanoseconds; 0 before the first.
    slept_ns: u32 = 0,
    looked_ns: u32 = 0,
    /// What sleeping took when looking was last found to be no better.
    slept_then_ns: u32 = 0,
    /// How many looks found nothing, of `vain_all`: a mean too.
    vain: u16 = 0,
    state: enum(u8) { sleeping, trying, looking } = .sleeping,
    /// Whether the last wait found nothing in its time.
    is_idle: bool = false,
    /// Until the next try; or, of this try, to come; or until one sleeps.
    waits_left: u16 = first_try_after,
    /// How many waits have looked since the place began to.
    looks_count: u16 = 0,
    /// How many waits are between this try and the next.
    interval: u16 = interval_min,

    /// How long the wait that begins now looks before it sleeps, of this time at the most. 0 is not at all.
    pub fn lookNs(spinner: *const Spinner, longest_ns: u32) u32 {
        if (spinner.slept_ns > longest_ns) return 0;
        return switch (spinner.state) {
            .sleeping => 0,
            .trying => spinner.enoughNs(),
            .looking => if (spinner.waits_left > 0) spinner.enoughNs() else 0,
        };
    }

    /// How long a look lasts that finds nothing.
    fn enoughNs(spinner: *const Spinner) u32 {
        return spinner.slept_ns / 8 * 5;
    }

    /// A wait that slept at once took so long.
    pub fn learnSlept(spinner: *Spinner, took_ns: u64) void {
        spinner.slept_ns = mean(spinner.slept_ns, took_ns, 8);
        switch (spinner.state) {
            .sleeping => {
                if (spinner.isNews()) spinner.trySoon();
                spinner.waits_left -|= 1;
                if (spinner.waits_left == 0) spinner.enter(.trying);
            },
            .trying => {},
            .looking => spinner.waits_left = looks_between_sleeps,
        }
    }

    /// A wait that looked first, for a part of the time that it took.
    pub fn learnLooked(spinner: *Spinner, took_ns: u64, looked_ns: u64) void {
        // A gap tells of neither looking nor sleeping, however long it is.
        const bounded_ns = @min(took_ns, looked_ns +| 2 * @as(u64, spinner.slept_ns));
        const cost_ns = bounded_ns +| looked_ns / 2;
        const vain: u16 = if (looked_ns < spinner.enoughNs()) 0 else vain_all;
        spinner.vain = spinner.vain - spinner.vain / vain_weight + vain / vain_weight;
        spinner.waits_left -|= 1;
        switch (spinner.state) {
            // Another thread's wait has ended what this one was a part of.
            .sleeping => {},
            .trying => {
                spinner.looked_ns = mean(spinner.looked_ns, cost_ns, 2);
                const is_hopeless = tries_count - spinner.waits_left >= tries_before_hopeless and
                    spinner.looked_ns >= spinner.slept_ns;
                if (spinner.waits_left > 0 and !is_hopeless) return;
                if (spinner.pays()) spinner.enter(.looking) else spinner.tryLater();
            },
            .looking => {
                spinner.looks_count +|= 1;
                spinner.looked_ns = mean(spinner.looked_ns, cost_ns, 8);
                if (spinner.pays()) return;
                if (spinner.looks_count < looks_worthwhile) return spinner.tryLater();
                spinner.interval = interval_min;
                spinner.enter(.sleeping);
            },
        }
    }

    /// What looking would bring may have changed: the last try is forgotten.
    pub fn trySoon(spinner: *Spinner) void {
        if (spinner.state != .sleeping) return;
        spinner.interval = interval_min;
        spinner.waits_left = @min(spinner.waits_left, interval_min);
        spinner.slept_then_ns = spinner.slept_ns;
    }

    /// A wait looked for as long as it may, and no event ended it: nobody knows when that would have come.
    pub fn learnVain(spinner: *Spinner) void {
        spinner.learnLooked(std.math.maxInt(u64), spinner.enoughNs());
    }

    /// Whether sleeping takes much more, or much less, than when looking was no better: this may have changed too.
    fn isNews(spinner: *const Spinner) bool {
        const then_ns = spinner.slept_then_ns;
        return then_ns > 0 and (spinner.slept_ns / news_factor > then_ns or spinner.slept_ns < then_ns / news_factor);
    }

    /// Whether looking is better: clearly, to begin with it.
    fn pays(spinner: *const Spinner) bool {
        const enough_ns = if (spinner.state == .trying) spinner.slept_ns / 8 * 7 else spinner.slept_ns;
        return spinner.looked_ns < enough_ns and (spinner.state == .trying or spinner.vain < vain_max);
    }

    fn tryLater(spinner: *Spinner) void {
        spinner.enter(.sleeping);
        spinner.interval = @min(spinner.interval * 4, interval_max);
        spinner.slept_then_ns = spinner.slept_ns;
    }

    fn enter(spinner: *Spinner, state: @FieldType(Spinner, "state")) void {
        spinner.state = state;
        spinner.waits_left = switch (state) {
            .sleeping => spinner.interval,
            .trying => tries_count,
            .looking => looks_between_sleeps,
        };
        if (state == .trying) spinner.looked_ns = 0;
        if (state == .looking) {
            spinner.vain = 0;
            spinner.looks_count = 0;
        }
    }
};

fn mean(before_ns: u32, new_ns: u64, weight: u32) u32 {
    const new: u32 = @intCast(std.math.clamp(new_ns, 1, std.math.maxInt(u32)));
    if (before_ns == 0) return new;
    return before_ns - before_ns / weight + new / weight;
}

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
            const look_ns = spinner.lookNs(longest_ns);
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

    const longest_ns = 200_000;

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
    // A part of what sleeping takes, and nothing if that is longer than a look may be.
    try testing.expectEqual(37_500, spinner.lookNs(World.longest_ns));
    try testing.expectEqual(0, spinner.lookNs(59_999));
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

test "looks in vain end the looking, whatever ended the waits" {
    var spinner: Spinner = .{};
    _ = World.near.run(&spinner, 1000);
    try testing.expectEqual(.looking, spinner.state);
    for (0..10) |_| spinner.learnVain();
    try testing.expect(spinner.state != .looking);
}

test "a gap now and then does not end the looking" {
    var spinner: Spinner = .{};
    _ = World.near.run(&spinner, 100);
    for (0..100) |_| {
        _ = World.near.run(&spinner, 20);
        spinner.learnLooked(800_000, spinner.enoughNs());
        try testing.expectEqual(.looking, spinner.state);
    }
}

test "what was right for long is tried again soon, also just after a sleep" {
    var spinner: Spinner = .{};
    _ = World.near.run(&spinner, first_try_after + tries_count + looks_between_sleeps + 10);
    while (spinner.state == .looking) _ = World.far.run(&spinner, 1);
    try testing.expectEqual(interval_min, spinner.interval);
}

test "a try comes soon where sleeping begins to take much longer" {
    var spinner: Spinner = .{};
    _ = World.shared.run(&spinner, 100_000);
    try testing.expectEqual(interval_max, spinner.interval);
    _ = World.near.run(&spinner, 40);
    try testing.expectEqual(.looking, spinner.state);
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

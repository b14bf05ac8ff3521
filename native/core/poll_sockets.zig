//! poll_socket and poll_sockets: one wait over sockets that the caller lists, without a poller.

const std = @import("std");
const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const handles = @import("handles.zig");
const socket_events = @import("socket_events.zig");
const places = @import("../base/places.zig");
const Spinner = @import("../base/spinner.zig").Spinner;
const status = @import("../base/status.zig");
const spinning = @import("spinning.zig");
const waiters = @import("waiters.zig");
const Backoff = @import("../base/backoff.zig").Backoff;

pub const Request = struct {
    sockets: []const handles.Handle,
    asked: []const u32,
    happened: []u32,
    /// Keeps the wait's place between its pieces: see `placeOf`.
    place: *u32,
    /// Whether this is not the wait's first piece.
    goes_on: bool = false,
};

/// The most sockets that are waited for without allocating.
const few = 16;
/// What the waits for more than one socket have learnt.
pub var spinner_of_several: Spinner = .{};
/// Behind the sockets' entries, what the system's wait needs for itself.
const spare = platform.poll.spare_entries;

/// Returns how many sockets have one of their events.
pub fn pollSockets(request: Request, deadline: platform.sys.Deadline, failure: *status.Failure) status.Error!usize {
    const count = request.sockets.len;
    std.debug.assert(request.asked.len == count);
    std.debug.assert(request.happened.len == count);
    var few_slots: [few]*handles.Slot = undefined;
    var few_entries: [few + spare]platform.poll.Entry = undefined;
    const allocator = platform.sys.allocator;
    const slots = if (count <= few) few_slots[0..count] else try allocator.alloc(*handles.Slot, count);
    defer if (count > few) allocator.free(slots);
    const entries = if (count <= few) few_entries[0 .. count + spare] else try allocator.alloc(
        platform.poll.Entry,
        count + spare,
    );
    defer if (count > few) allocator.free(entries);

    var pinned: usize = 0;
    defer for (slots[0..pinned]) |slot| slot.unpin();
    for (request.sockets, request.asked, 0..) |handle, asked, index| {
        errdefer failure.index = index;
        slots[pinned] = try handles.table.pinSocket(handle);
        pinned += 1;
        const of_others = asked & ~events.inside.all;
        if (of_others & ~socket_events.eventsAllowed(slots[index]) != 0) return error.WrongEvents;
    }
    var wait: Wait = .{ .slots = slots, .entries = entries, .request = request, .failure = failure };
    return wait.run(deadline);
}

/// What ends a wait for these events, and no event tells of: that a stream has finished writing; and that bytes have
/// come from the system by another thread, for a wait for them.
pub fn placeOf(slots: []const *handles.Slot, asked: []const u32) u32 {
    var count: u64 = 0;
    for (slots, asked) |slot, its_asked| {
        if (slot.object != .stream) continue;
        const stream = &slot.object.stream;
        const waits_for_more = its_asked & events.inside.more_data != 0;
        count += if (waits_for_more) stream.changes() else @intFromBool(stream.connection.known.load().finished);
    }
    return places.after(count);
}

const Wait = struct {
    slots: []*handles.Slot,
    /// One for each slot, and the spare ones.
    entries: []platform.poll.Entry,
    request: Request,
    failure: *status.Failure,
    /// Whether the wait sleeps only for a while, and then asks again.
    rechecks: bool = false,
    /// The kernel reported something that no rule makes anything of, and would report it again at once. Nobody foresaw
    /// that state of the system; it must not spin the processor.
    stuck: bool = false,
    /// Every socket was asked in this turn, whatever its plan.
    asked_all: bool = false,
    backoff: Backoff = .{},
    /// What ends it has happened since the wait's place was taken.
    is_past: bool = false,
    /// Of the first turn that sleeps.
    spin: ?spinning.Wait = null,

    fn run(self: *Wait, deadline: platform.sys.Deadline) status.Error!usize {
        if (deadline != .now) handles.prepareToWait();
        while (true) {
            if (try self.turn(deadline)) |found| return found;
        }
    }

    /// Looks once at all sockets, and sleeps if that finds nothing. Null if the wait goes on.
    fn turn(self: *Wait, deadline: platform.sys.Deadline) status.Error!?usize {
        const lock = handles.lock;
        var waiter: waiters.Waiter = undefined;
        var sleeper: ?platform.poll.Sleeper = null;
        var found: usize = 0;
        {
            lock.lock();
            defer lock.unlock();
            found = try self.prepare();
            self.is_past = self.is_past or self.passedMeanwhile();
            if (found == 0 and deadline != .now and !self.is_past) {
                sleeper = try .take(self.failure);
                waiter = .{ .waker = sleeper.?.waker };
                for (self.slots) |slot| slot.waiting += 1;
                handles.table.pollWaiters().add(&waiter);
                if (self.spin == null) self.spin = .begin(self.spinner(), self.request.goes_on);
            }
        }
        const waited = self.wait(sleeper, &waiter, deadline);

        lock.lock();
        defer lock.unlock();
        var interrupted = false;
        if (sleeper) |ours| {
            interrupted = handles.table.pollWaiters().remove(&waiter) == .interrupt;
            ours.giveBack();
            for (self.slots) |slot| slot.waiting -= 1;
        }
        try self.checkOpen();
        if (waited) |_| {
            found += try self.collect();
        } else |err| {
            if (found == 0) return self.ended(err);
        }
        if (found > 0) {
            self.learn(.event);
            return found;
        }
        if (interrupted) return self.ended(error.Interrupted);
        if (deadline == .now and !self.stuck) return 0;
        if (self.is_past) return self.ended(error.Woken);
        // What holds since then is looked for once more.
        self.is_past = self.passedMeanwhile();
        if (self.is_past or self.stuck or deadline.remainingNs() != 0) return null;
        self.learn(.time_is_up);
        return 0;
    }

    /// Without the lock.
    fn wait(
        self: *Wait,
        sleeper: ?platform.poll.Sleeper,
        waiter: *const waiters.Waiter,
        deadline: platform.sys.Deadline,
    ) status.Error!void {
        // While stuck the sockets were asked already, and the kernel watches the waker alone.
        const first = if (self.asked_all) self.slots.len else 0;
        const entries = self.entries[first..];
        var sleep_ns: ?u64 = 0;
        if (sleeper != null) {
            if (!self.asked_all and self.spin.?.looksFirst()) {
                while (!waiter.hasNotice()) {
                    if (try platform.poll.wait(null, entries, 0, self.failure)) return;
                    if (!self.spin.?.looksAgain(deadline)) break;
                }
            }
            sleep_ns = deadline.remainingNs();
            if (self.rechecks) sleep_ns = self.backoff.limit(sleep_ns);
        }
        _ = try platform.poll.wait(sleeper, entries, sleep_ns, self.failure);
    }

    /// What has been learnt of waits for the same.
    fn spinner(self: *const Wait) *Spinner {
        return if (self.slots.len == 1) &self.slots[0].spinner else &spinner_of_several;
    }

    fn learn(self: *Wait, ending: spinning.Ending) void {
        if (self.spin) |spin| spin.end(self.spinner(), ending);
    }

    fn ended(self: *Wait, err: status.Error) status.Error {
        self.learn(.other);
        return err;
    }

    /// Whether the place was left since it was taken: see `placeOf`. A wait for room of a stream that has finished, for
    /// one, is in vain.
    fn passedMeanwhile(self: *Wait) bool {
        const now = placeOf(self.slots, self.request.asked);
        if (self.request.place.* == places.none) self.request.place.* = now;
        return self.request.place.* != now;
    }

    /// Asks the sockets that the kernel would tell nothing new of, and makes the kernel's list of the others.
    fn prepare(self: *Wait) status.Error!usize {
        try self.checkOpen();
        self.rechecks = self.stuck;
        var found: usize = 0;
        const request = self.request;
        const entries = self.entries[0..self.slots.len];
        for (self.slots, request.asked, request.happened, entries, 0..) |slot, asked, *happened, *entry, index| {
            socket_events.prepare(slot, asked) catch |err| return self.fail(index, err);
            var plan = socket_events.planOf(slot, asked);
            happened.* = 0;
            if (plan.asks != .never or self.stuck) {
                happened.* = socket_events.eventsOf(
                    slot,
                    null,
                    asked,
                    self.failure,
                ) catch |err| return self.fail(index, err);
                found += @intFromBool(happened.* != 0);
                // The answer may have changed what is known of the socket.
                plan = socket_events.planOf(slot, asked);
            }
            if (plan.asks != .never) self.rechecks = true;
            const left_to_kernel = !self.stuck and happened.* == 0;
            entry.* = platform.poll.entryOf(socket_events.watchedOf(slot), if (left_to_kernel) plan.watches else null);
        }
        self.asked_all = self.stuck;
        self.stuck = false;
        return found;
    }

    fn collect(self: *Wait) status.Error!usize {
        var found: usize = 0;
        const request = self.request;
        const entries = self.entries[0..self.slots.len];
        for (self.slots, request.asked, request.happened, entries, 0..) |slot, asked, *happened, entry, index| {
            const conditions = platform.poll.conditionsOf(entry);
            if (conditions.isEmpty()) continue;
            const before = socket_events.planOf(slot, asked);
            const changes_before = socket_events.changesOf(slot);
            happened.* = socket_events.eventsOf(slot, conditions, asked, self.failure) catch |err|
                return self.fail(index, err);
            found += @intFromBool(happened.* != 0);
            if (happened.* != 0 or changes_before != socket_events.changesOf(slot)) continue;
            if (std.meta.eql(before, socket_events.planOf(slot, asked))) self.stuck = true;
        }
        return found;
    }

    fn fail(self: *Wait, index: usize, err: status.Error) status.Error {
        self.failure.index = index;
        return err;
    }

    fn checkOpen(self: *Wait) status.Error!void {
        for (self.slots, 0..) |slot, index| {
            if (slot.isClosed()) return self.fail(index, error.InvalidHandle);
        }
    }
};

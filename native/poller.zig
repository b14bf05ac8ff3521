//! What every poller does, whatever its selector: which sockets it has, which of them the selector watches, and what a
//! wait returns.
//!
//! A monitored socket is a registration. At any time it is in one of four states, chosen by events.Plan: armed (the
//! selector watches it), standing (an asked-for event holds and no selector would tell: looked at by every wait),
//! recheck (looked at now and then), parked (nothing can happen). So the cost of a wait follows what it reports, and a
//! connection that is dead and of no interest costs nothing.
//!
//! All functions but `wait` and `destroy` are called with the library's lock held.

const std = @import("std");
const platform = @import("platform.zig");
const events = @import("events.zig");
const handles = @import("handles.zig");
const status = @import("status.zig");
const waiters = @import("waiters.zig");
const deadlines = @import("deadline.zig");
const unfilled = @import("unfilled.zig");
const sys = platform.sys;

const State = enum { standing, armed, recheck, parked };

/// One socket in one poller.
const Registration = struct {
    poller: *Poller,
    socket: *handles.Slot,
    asked: u32,
    state: State = .parked,
    /// What the selector watches for, while armed.
    interest: events.Interest = .{},
    key: platform.Selector.Key,
    /// Where it was reported last. Of a wait that is over, only the address is left.
    reported_in: ?*const Poller.Results = null,
    reported_at: usize = 0,
    /// In the poller's list of its state.
    in_poller: std.DoublyLinkedList.Node = .{},
    /// In the socket's list.
    in_socket: std.DoublyLinkedList.Node = .{},

    fn fromPoller(node: *std.DoublyLinkedList.Node) *Registration {
        return @alignCast(@fieldParentPtr("in_poller", node));
    }

    fn fromSocket(node: *std.DoublyLinkedList.Node) *Registration {
        return @alignCast(@fieldParentPtr("in_socket", node));
    }

    fn plan(registration: *const Registration) events.Plan {
        return planOf(registration.socket, registration.asked);
    }
};

/// Registrations that are not in use, for the next ones: they are made and unmade with every connection.
var spare_registrations: std.DoublyLinkedList = .{};

fn allocateRegistration() status.Error!*Registration {
    if (spare_registrations.pop()) |node| return .fromPoller(node);
    // As many as a page has room for, and for good: like the slots, they are bounded by the most that was ever open.
    const batch = try std.heap.page_allocator.alloc(Registration, @max(1, std.heap.pageSize() / @sizeOf(Registration)));
    for (batch) |*registration| {
        registration.in_poller = .{};
        spare_registrations.append(&registration.in_poller);
    }
    return .fromPoller(spare_registrations.pop().?);
}

fn freeRegistration(registration: *Registration) void {
    registration.* = undefined;
    registration.in_poller = .{};
    spare_registrations.append(&registration.in_poller);
}

/// The events that a socket of this kind can have.
pub fn eventsAllowed(socket: *const handles.Slot) u32 {
    return switch (socket.object) {
        .server => events.of_servers,
        .stream => events.of_streams,
        .none, .poller => unreachable,
    };
}

/// How to learn of the asked-for events, by what is known of the socket now.
pub fn planOf(socket: *const handles.Slot, asked: u32) events.Plan {
    return switch (socket.object) {
        .server => .ofServer(asked),
        .stream => |*stream| .ofStream(asked, stream.connection.known.load()),
        .none, .poller => unreachable,
    };
}

/// What selectors watch of it.
pub fn watchedOf(socket: *handles.Slot) sys.Descriptor {
    return switch (socket.object) {
        .server => |*server| server.watched(),
        .stream => |*stream| stream.watched(),
        .none, .poller => unreachable,
    };
}

/// The socket's events that hold, by what a selector reported (null: ask the socket itself). A connection whose outcome
/// becomes known by that is told to every poller that has it.
pub fn eventsOf(socket: *handles.Slot, conditions: ?events.Conditions, asked: u32) u32 {
    switch (socket.object) {
        .server => |*server| return if (conditions) |given| server.eventsOf(given, asked) else server.probe(asked),
        .stream => |*stream| {
            const before = stream.connection.known.load();
            const result = if (conditions) |given| stream.eventsOf(given, asked) else stream.probe(asked);
            if (!before.determined and stream.connection.known.load().determined) becameKnown(socket);
            return result;
        },
        .none, .poller => unreachable,
    }
}

/// What was asked of it may hold from now on, whatever the selectors report.
pub fn becameKnown(socket: *handles.Slot) void {
    handles.table.notifyPollWaiters(socket);
    var next = socket.registrations.first;
    while (next) |node| : (next = node.next) {
        const registration: *Registration = .fromSocket(node);
        // In a child, the copy of a parent's poller: nobody can wait with it.
        if (registration.poller.isForeign()) continue;
        _ = registration.poller.settle(registration);
    }
}

/// Every poller forgets the socket, and whoever waits with one returns.
pub fn socketCloses(socket: *handles.Slot) void {
    while (socket.registrations.first) |node| {
        const registration: *Registration = .fromSocket(node);
        registration.poller.notify(.end);
        registration.poller.remove(registration);
    }
}

pub const Poller = struct {
    handle: handles.Handle = 0,
    process_id: i32,
    backend: platform.Backend,
    selector: platform.Selector,
    waker: sys.Waker,
    waiters: waiters.Waiters = .{},
    lists: std.EnumArray(State, std.DoublyLinkedList) = .initFill(.{}),
    count: u64 = 0,
    /// Who comes first in the next wait: what stands, or what the selector reports. In turns, so that neither keeps the
    /// other out when a wait has not room for both.
    standing_first: bool = true,
    wake_requested: bool = false,
    closing: bool = false,

    pub fn create(backend: platform.Backend, failure: *status.Failure) status.Error!*Poller {
        sys.prepareToWait();
        const poller = try sys.allocator.create(Poller);
        errdefer sys.allocator.destroy(poller);
        const waker: sys.Waker = try .open(failure);
        errdefer waker.close();
        poller.* = .{
            .process_id = sys.processId(),
            .backend = backend,
            .selector = try .open(backend, waker, failure),
            .waker = waker,
        };
        return poller;
    }

    pub fn destroy(poller: *Poller) void {
        std.debug.assert(poller.count == 0);
        poller.selector.close();
        poller.waker.close();
        sys.allocator.destroy(poller);
    }

    /// The poller closes: its sockets leave it, and its waits end.
    pub fn detachAll(poller: *Poller) void {
        poller.closing = true;
        var lists = poller.lists.iterator();
        while (lists.next()) |entry| {
            while (entry.value.first) |node| poller.remove(.fromPoller(node));
        }
        poller.notify(.end);
    }

    pub fn interrupt(poller: *Poller) void {
        poller.notify(.interrupt);
    }

    /// In a child the waker is the parent's too, and the waiting threads stayed behind.
    fn notify(poller: *Poller, notice: waiters.Notice) void {
        if (!poller.isForeign()) poller.waiters.notifyAll(notice);
    }

    fn isForeign(poller: *const Poller) bool {
        return poller.process_id != sys.processId();
    }

    fn check(poller: *const Poller) status.Error!void {
        if (poller.closing) return error.InvalidHandle;
        if (poller.isForeign()) return error.WrongProcess;
    }

    fn find(poller: *Poller, socket: *handles.Slot) ?*Registration {
        var next = socket.registrations.first;
        while (next) |node| : (next = node.next) {
            const registration: *Registration = .fromSocket(node);
            if (registration.poller == poller) return registration;
        }
        return null;
    }

    pub fn monitor(poller: *Poller, socket: *handles.Slot, asked: u32, failure: *status.Failure) status.Error!void {
        try poller.check();
        if (socket.isClosed()) return error.InvalidHandle;
        if (poller.find(socket) != null) return error.AlreadyMonitored;
        const registration = try allocateRegistration();
        registration.* = .{
            .poller = poller,
            .socket = socket,
            .asked = asked,
            .key = .{
                .handle = socket.handle(),
                .descriptor = watchedOf(socket),
            },
        };
        poller.lists.getPtr(.parked).append(&registration.in_poller);
        socket.registrations.append(&registration.in_socket);
        poller.count += 1;
        errdefer poller.remove(registration);
        try poller.apply(registration, registration.plan(), failure);
        poller.changed(registration);
    }

    pub fn setMonitored(poller: *Poller, socket: *handles.Slot, asked: u32, failure: *status.Failure) status.Error!void {
        try poller.check();
        const registration = poller.find(socket) orelse return error.NotMonitored;
        const before = registration.asked;
        registration.asked = asked;
        errdefer registration.asked = before;
        try poller.apply(registration, registration.plan(), failure);
        poller.changed(registration);
    }

    /// The socket may be null: closed, and so not there any more.
    pub fn unmonitor(poller: *Poller, socket: ?*handles.Slot) status.Error!bool {
        try poller.check();
        const registration = poller.find(socket orelse return false) orelse return false;
        poller.remove(registration);
        if (poller.selector.changesNeedNotice()) poller.waiters.notifyAll(.again);
        return true;
    }

    /// The socket may be null: closed, and so not there any more.
    pub fn monitoredEvents(poller: *Poller, socket: ?*handles.Slot) status.Error!u32 {
        try poller.check();
        const registration = poller.find(socket orelse return error.NotMonitored) orelse return error.NotMonitored;
        return registration.asked;
    }

    /// Stores what there is room for, and returns how many there are.
    pub fn monitored(poller: *Poller, room: []handles.Handle) status.Error!u64 {
        try poller.check();
        var stored: usize = 0;
        var lists = poller.lists.iterator();
        while (lists.next()) |entry| {
            var next = entry.value.first;
            while (next) |node| : (next = node.next) {
                if (stored == room.len) return poller.count;
                room[stored] = Registration.fromPoller(node).key.handle;
                stored += 1;
            }
        }
        return poller.count;
    }

    pub fn wake(poller: *Poller) status.Error!void {
        try poller.check();
        poller.wake_requested = true;
        // A wait that has not begun sees the request itself.
        poller.waiters.notifyFirst(.again);
    }

    fn remove(poller: *Poller, registration: *Registration) void {
        if (registration.state == .armed) poller.disarm(registration);
        poller.lists.getPtr(registration.state).remove(&registration.in_poller);
        registration.socket.registrations.remove(&registration.in_socket);
        poller.count -= 1;
        freeRegistration(registration);
    }

    fn disarm(poller: *Poller, registration: *Registration) void {
        // In a child the selector is the parent's own: to touch it would take the parent's sockets out.
        if (!poller.isForeign()) poller.selector.disarm(&registration.key);
    }

    /// Threads that wait already learn of a registration that has come or changed.
    fn changed(poller: *Poller, registration: *Registration) void {
        switch (registration.state) {
            .armed => if (poller.selector.changesNeedNotice()) poller.waiters.notifyAll(.again),
            .standing, .recheck => poller.waiters.notifyAll(.again),
            .parked => {},
        }
    }

    /// Brings the registration into the state that the plan asks for. On an error it is where it was.
    fn apply(
        poller: *Poller,
        registration: *Registration,
        plan: events.Plan,
        failure: *status.Failure,
    ) status.Error!void {
        const before = registration.state;
        switch (plan) {
            .armed => |interest| {
                if (before != .armed) {
                    try poller.selector.arm(&registration.key, interest, failure);
                } else if (registration.interest != interest and !poller.selector.rearm(&registration.key, interest)) {
                    // Somebody closed the descriptor behind our back. What it is now is nothing to watch.
                    poller.disarm(registration);
                    return poller.move(registration, .recheck);
                }
                registration.interest = interest;
            },
            .standing, .recheck, .parked => if (before == .armed) poller.disarm(registration),
        }
        poller.move(registration, switch (plan) {
            .armed => .armed,
            .standing => .standing,
            .recheck => .recheck,
            .parked => .parked,
        });
    }

    fn move(poller: *Poller, registration: *Registration, state: State) void {
        if (registration.state == state) return;
        poller.lists.getPtr(registration.state).remove(&registration.in_poller);
        registration.state = state;
        poller.lists.getPtr(state).append(&registration.in_poller);
    }

    /// Plans anew after something became known, and tells the threads that sleep by the old plan: what this one has heard may
    /// be all that they would have. False if that changed nothing.
    fn settle(poller: *Poller, registration: *Registration) bool {
        const state = registration.state;
        const interest = registration.interest;
        var failure: status.Failure = .{};
        poller.apply(registration, registration.plan(), &failure) catch {
            // The system has no memory to watch it (ENOMEM, ENOSPC): look at it now and then instead.
            poller.move(registration, .recheck);
        };
        if (registration.state == state and registration.interest == interest) return false;
        poller.changed(registration);
        return true;
    }

    /// Where a wait puts what it reports.
    pub const Results = struct {
        sockets: [*]handles.Handle,
        events: [*]u32,
        capacity: usize,
        count: usize = 0,

        fn room(results: *const Results) usize {
            return results.capacity - results.count;
        }

        fn add(results: *Results, registration: *Registration, happened: u32) void {
            results.sockets[results.count] = registration.key.handle;
            results.events[results.count] = happened;
            registration.reported_in = results;
            registration.reported_at = results.count;
            results.count += 1;
        }

        fn find(results: *const Results, registration: *const Registration) ?usize {
            const reported = results.sockets[0..results.count];
            const handle = registration.key.handle;
            if (registration.reported_in) |last| {
                // Another thread's wait has reported it since this one may have.
                if (last != results) return std.mem.indexOfScalar(handles.Handle, reported, handle);
                const index = registration.reported_at;
                // Not so if that was an earlier wait, at the same place in memory.
                if (index < reported.len and reported[index] == handle) return index;
            }
            return null;
        }
    };

    /// Called without the lock, on a pinned poller. Each turn of the loop looks once at what stands and once at what the
    /// selector reports, and blocks only when nothing stands.
    pub fn wait(
        poller: *Poller,
        results: *Results,
        timeout_ns: i64,
        failure: *status.Failure,
    ) status.Error!void {
        return unfilled.with(platform.Selector.Snapshot, waitWith, .{ poller, results, timeout_ns, failure });
    }

    fn waitWith(
        shot: *platform.Selector.Snapshot,
        poller: *Poller,
        results: *Results,
        timeout_ns: i64,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(results.capacity > 0);
        const lock = &handles.table.lock;
        const deadline: deadlines.Deadline = .after(timeout_ns);
        var backoff: deadlines.Backoff = .{};
        var standing_first: ?bool = null;
        var first_turn = true;
        var took_signal = false;
        var hears: enum { not_yet, now, done } = .not_yet;
        while (true) {
            // It was another thread's, which must get it now.
            if (took_signal) sys.yield();
            if (hears == .now) {
                platform.Selector.hear();
                hears = .done;
            }
            var waiter: waiters.Waiter = .{ .waker = poller.waker };
            var woken = false;
            var blocks = false;
            var rechecks = false;
            {
                lock.lock();
                defer lock.unlock();
                try poller.check();
                if (standing_first == null) {
                    standing_first = poller.standing_first;
                    poller.standing_first = !poller.standing_first;
                }
                if (standing_first.?) poller.collectStanding(results, first_turn);
                woken = poller.takeWake();
                rechecks = poller.lists.get(.recheck).first != null;
                const stands = !standing_first.? and (rechecks or poller.lists.get(.standing).first != null);
                blocks = !woken and !stands and results.count == 0;
                try poller.selector.snapshot(shot);
                if (blocks) poller.waiters.add(&waiter);
            }

            var sleep_ns: ?u64 = 0;
            if (blocks) {
                sleep_ns = deadline.remainingNs();
                if (rechecks) sleep_ns = backoff.limit(sleep_ns);
            }
            const waited = if (results.room() > 0) shot.wait(results.room(), sleep_ns, failure) else {};

            lock.lock();
            defer lock.unlock();
            defer poller.endTurn(shot);
            const notice = if (blocks) poller.waiters.remove(&waiter) else .none;
            if (notice == .end) woken = true;
            took_signal = notice == .none and shot.signalsTaken() > 0;
            if (poller.closing) return error.InvalidHandle;
            if (waited) |_| poller.collect(shot, results) else |err| {
                if (results.count == 0) return if (woken) error.Woken else err;
            }
            if (!standing_first.?) poller.collectStanding(results, first_turn);
            first_turn = false;
            if (poller.takeWake()) woken = true;
            if (results.count == 0) {
                if (woken) return error.Woken;
                if (notice == .interrupt) return error.Interrupted;
            }
            if (results.count > 0 or (blocks and deadline.remainingNs() == 0 and !shot.outdated())) {
                // Had it slept and found something, more would only be more: the next wait's.
                const slept = blocks and deadline != .now;
                const may_have_missed = if (results.count > 0) !slept and results.room() > 0 else true;
                if (!may_have_missed or hears == .done or !poller.selector.hearsLate()) return;
                hears = .now;
            }
            standing_first = true;
        }
    }

    /// For the sake of other threads that wait: what this one has taken of the selector's reports and of the waker's
    /// signals, and does not return, is theirs.
    fn endTurn(poller: *Poller, shot: *platform.Selector.Snapshot) void {
        poller.selector.discard(shot);
        if (poller.waiters.isEmpty()) return;
        poller.selector.reportToOthers();
        if (shot.signalsTaken() > 0) poller.waiters.signalAgain();
    }

    fn takeWake(poller: *Poller) bool {
        if (!poller.wake_requested) return false;
        poller.wake_requested = false;
        return true;
    }

    /// Asks the sockets themselves that no selector would tell of.
    fn collectStanding(poller: *Poller, results: *Results, revive: bool) void {
        poller.collectList(.recheck, results, revive);
        poller.collectList(.standing, results, false);
    }

    /// Those that are reported go to the end, for the others' sake. With `revive`, those whose reports came to nothing are the
    /// selector's again: once in each wait, so that they can't spin the processor.
    fn collectList(poller: *Poller, state: State, results: *Results, revive: bool) void {
        const list = poller.lists.getPtr(state);
        const last = list.last;
        var next = list.first;
        while (next) |node| {
            if (results.room() == 0) return;
            next = if (node == last) null else node.next;
            const registration: *Registration = .fromPoller(node);
            if (results.find(registration) != null) continue;
            const happened = eventsOf(registration.socket, null, registration.asked);
            if (happened == 0) {
                if (state == .standing or (revive and registration.plan() == .armed)) _ = poller.settle(registration);
                continue;
            }
            results.add(registration, happened);
            if (registration.state == state) {
                list.remove(node);
                list.append(node);
            }
        }
    }

    fn collect(poller: *Poller, shot: *platform.Selector.Snapshot, results: *Results) void {
        while (results.room() > 0) {
            const report = shot.next() orelse return;
            if (report.handle == 0) continue; // the waker: notices say what it is about
            const socket = handles.table.find(report.handle) orelse continue;
            const registration = poller.find(socket) orelse continue;
            // It may have moved since the selector was asked.
            if (registration.state != .armed) continue;
            const interest = registration.interest;
            const happened = eventsOf(socket, report.conditions, registration.asked);
            if (happened != 0) {
                // Some selectors tell of each condition by itself.
                if (results.find(registration)) |index| {
                    results.events[index] |= happened;
                } else {
                    results.add(registration, happened);
                }
                // What won't come again, and holds for good, stands from now on.
                if (!report.repeats) _ = poller.settle(registration);
                continue;
            }
            // The selector would report it for ever. Something that makes it of no more interest is known now; if not,
            // it is a state of the system that nobody foresaw, and must not spin the processor.
            if (poller.settle(registration) or !report.repeats) continue;
            if (registration.state != .armed or registration.interest != interest) continue;
            poller.disarm(registration);
            poller.move(registration, .recheck);
            poller.changed(registration);
        }
    }
};

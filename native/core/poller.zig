//! What every poller does, whatever its selector: which sockets it has, which of them the selector watches, and what a
//! wait returns.
//!
//! A monitored socket is a registration. events.Plan says whether the selector watches it, and how often the socket
//! itself is asked: by every wait, because an event holds that no selector would tell of; now and then; or never. So
//! the cost of a wait follows what it reports, and a connection that is dead and of no interest costs nothing.
//!
//! All functions but `wait` and `destroy` are called with the library's lock held.

const std = @import("std");
const platform = @import("../platform.zig");
const events = @import("../base/events.zig");
const handles = @import("handles.zig");
const socket_events = @import("socket_events.zig");
const status = @import("../base/status.zig");
const waiters = @import("waiters.zig");
const spinning = @import("spinning.zig");
const Backoff = @import("../base/backoff.zig").Backoff;
const places = @import("../base/places.zig");
const Spinner = @import("../base/spinner.zig").Spinner;
const unfilled = @import("../base/unfilled.zig");
const sys = platform.sys;

/// How many of the sockets that are asked now and then a wait asks before it sleeps, and each time it has slept. The
/// next looks ask the others.
const looks_before_sleep_max = 4;
const looks_after_sleep_max = 64;
/// This number of waits that report something else don't ask them: a busy poller has better things to do. But the next
/// wait asks each socket that is new among them: another poller may have taken the only report of it.
const waits_without_looks_max = 16;
/// Nor longer than this.
const looks_interval_ns = 50 * std.time.ns_per_ms;

/// One socket in one poller.
const Registration = struct {
    poller: *Poller,
    socket: *handles.Slot,
    asked: u32,
    asks: events.Plan.Asks = .never,
    /// To be asked now and then, and not asked yet.
    is_unasked: bool = false,
    /// A server that pauses, when it was planned last.
    is_pausing: bool = false,
    /// What the selector watches for; null if it doesn't. Less than the plan where the selector could not.
    watches: ?events.Interest = null,
    key: platform.Key,
    /// Where it was reported last. Of a wait that is over, only the address is left.
    reported_in: ?*const Poller.Results = null,
    reported_at: usize = 0,
    /// In the poller's list of those that are asked as often.
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
        return socket_events.planOf(registration.socket, registration.asked);
    }
};

/// What the table of handles asks of pollers.
const hooks: handles.PollerHooks = .{
    .detachAll = detachAll,
    .interrupt = interrupt,
    .destroy = destroy,
    .socketCloses = socketCloses,
    .becameKnown = becameKnown,
};

fn detachAll(poller: *handles.Poller) void {
    Poller.from(poller).detachAll();
}

fn interrupt(poller: *handles.Poller) void {
    Poller.from(poller).notify(.interrupt);
}

fn destroy(poller: *handles.Poller) void {
    Poller.from(poller).destroy();
}

/// The asked-for events may hold from now on, whatever the selectors report.
fn becameKnown(socket: *handles.Slot) void {
    var next = socket.registrations.first;
    while (next) |node| : (next = node.next) {
        const registration: *Registration = .fromSocket(node);
        // In a child, the copy of a parent's poller: nobody can wait with it.
        if (registration.poller.isForeign()) continue;
        _ = registration.poller.settle(registration);
    }
}

/// Every poller forgets the socket, and whoever waits with one returns.
fn socketCloses(socket: *handles.Slot) void {
    while (socket.registrations.first) |node| {
        const registration: *Registration = .fromSocket(node);
        const poller = registration.poller;
        poller.closings_count += 1;
        poller.notify(.again);
        poller.remove(registration);
        poller.showWhatStands();
    }
}

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

/// The poller of a slot that has one.
pub fn of(slot: *handles.Slot) *Poller {
    return .from(slot.object.poller);
}

pub const Poller = struct {
    handle: handles.Handle = 0,
    process: sys.Process,
    backend: platform.Backend,
    selector: platform.Selector,
    waker: sys.Waker,
    waiters: waiters.Waiters = .{},
    lists: std.EnumArray(events.Plan.Asks, std.DoublyLinkedList) = .initFill(.{}),
    count: u64 = 0,
    /// How many of its sockets have been closed: each ends the waits that are under way, also between two pieces of
    /// one.
    closings_count: u64 = 0,
    /// Which comes first in the next wait: what stands, or what the selector reports. They take turns, so that neither
    /// keeps the other out when a wait has not room for both.
    standing_first: bool = true,
    waits_without_looks: u32 = 0,
    /// When those that are asked now and then are to be asked, whatever else there is to report.
    looks_due_ns: u64 = 0,
    unasked_count: usize = 0,
    wake_requested: bool = false,
    closing: bool = false,
    /// Whether somebody outside watches the selector's descriptor. Those who don't pay nothing for it.
    is_shown: bool = false,
    /// Of a poller that is shown: what its alarm is set to, 0 if it is not.
    alarm_ns: u64 = 0,
    spinner: Spinner = .{},

    pub fn from(poller: *handles.Poller) *Poller {
        return @ptrCast(@alignCast(poller));
    }

    pub fn create(backend: platform.Backend, failure: *status.Failure) status.Error!*handles.Poller {
        handles.prepareToWait();
        handles.registerPollers(&hooks);
        const poller = try sys.allocator.create(Poller);
        errdefer sys.allocator.destroy(poller);
        const waker: sys.Waker = try .open(failure);
        errdefer waker.close();
        poller.* = .{
            .process = .current(),
            .backend = backend,
            .selector = try .open(backend, waker, failure),
            .waker = waker,
        };
        return @ptrCast(poller);
    }

    fn destroy(poller: *Poller) void {
        std.debug.assert(poller.count == 0);
        poller.selector.close();
        poller.waker.close();
        sys.allocator.destroy(poller);
    }

    /// The poller closes: its sockets leave it, and its waits end.
    fn detachAll(poller: *Poller) void {
        poller.closing = true;
        var lists = poller.lists.iterator();
        while (lists.next()) |entry| {
            while (entry.value.first) |node| poller.remove(.fromPoller(node));
        }
        poller.notify(.again);
    }

    /// In a child the waker is the parent's too, and the waiting threads stayed behind.
    fn notify(poller: *Poller, notice: waiters.Notice) void {
        if (!poller.isForeign()) poller.waiters.notifyAll(notice);
    }

    fn isForeign(poller: *const Poller) bool {
        return !poller.process.isCurrent();
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
        try socket_events.prepare(socket, asked);
        const registration = try allocateRegistration();
        registration.* = .{
            .poller = poller,
            .socket = socket,
            .asked = asked,
            .key = .{
                .handle = socket.handle(),
                .descriptor = socket_events.watchedOf(socket),
            },
        };
        poller.lists.getPtr(.never).append(&registration.in_poller);
        socket.registrations.append(&registration.in_socket);
        poller.count += 1;
        errdefer poller.remove(registration);
        try poller.apply(registration, registration.plan(), failure);
        poller.changed(registration);
    }

    pub fn setMonitored(
        poller: *Poller,
        socket: *handles.Slot,
        asked: u32,
        failure: *status.Failure,
    ) status.Error!void {
        try poller.check();
        const registration = poller.find(socket) orelse return error.NotMonitored;
        const before = registration.asked;
        try socket_events.prepare(socket, asked);
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
        poller.showWhatStands();
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
        poller.showWhatStands();
        // A wait that has not begun sees the request itself.
        poller.waiters.notifyFirst(.again);
    }

    /// One descriptor for the whole poller, from now on readable while a wait would have something to report.
    pub fn fileno(poller: *Poller, failure: *status.Failure) status.Error!i64 {
        try poller.check();
        const descriptor = try poller.selector.show(failure);
        poller.is_shown = true;
        poller.showWhatStands();
        return descriptor;
    }

    /// The descriptor tells by itself what the selector watches. This tells the rest: what stands, a wake-up, and that
    /// sockets are to be asked. To be called when one of these may have changed.
    inline fn showWhatStands(poller: *Poller) void {
        if (poller.is_shown) poller.showNow();
    }

    noinline fn showNow(poller: *Poller) void {
        if (poller.isForeign()) return;
        const stands = poller.lists.get(.always).first != null;
        poller.waiters.hold(poller.waker, stands or poller.wake_requested or poller.unasked_count > 0);
        const has_rechecks = poller.lists.get(.now_and_then).first != null;
        const due_ns = if (has_rechecks) @max(poller.looks_due_ns, 1) else 0;
        // It is set anew when the look has been made, so that nobody takes it down before.
        if (due_ns == poller.alarm_ns) return;
        poller.alarm_ns = due_ns;
        const from_now_ns = @max(due_ns -| sys.monotonicNs(), 1);
        poller.selector.setAlarm(if (has_rechecks) from_now_ns else null);
    }

    fn remove(poller: *Poller, registration: *Registration) void {
        poller.disarm(registration);
        poller.lists.getPtr(registration.asks).remove(&registration.in_poller);
        poller.setUnasked(registration, false);
        registration.socket.registrations.remove(&registration.in_socket);
        poller.count -= 1;
        freeRegistration(registration);
    }

    fn disarm(poller: *Poller, registration: *Registration) void {
        if (registration.watches == null) return;
        registration.watches = null;
        // In a child the selector is the parent's own: a change here would take the parent's sockets out.
        if (!poller.isForeign()) poller.selector.disarm(&registration.key);
    }

    /// Threads that wait already learn of a registration that has come or changed.
    fn changed(poller: *Poller, registration: *Registration) void {
        poller.showWhatStands();
        const selector_tells = registration.watches == null or !poller.selector.changesNeedNotice();
        if (registration.asks != .never or !selector_tells) poller.waiters.notifyAll(.again);
    }

    /// Does what the plan asks for. On an error the registration is as it was.
    fn apply(
        poller: *Poller,
        registration: *Registration,
        plan: events.Plan,
        failure: *status.Failure,
    ) status.Error!void {
        if (plan.is_passing) return poller.ask(registration, plan.asks);
        registration.is_pausing = registration.socket.object == .server and plan.asks == .now_and_then;
        if (plan.watches) |interest| {
            if (registration.watches == null) {
                try poller.selector.arm(&registration.key, interest, failure);
            } else if (registration.watches != interest and !poller.selector.rearm(&registration.key, interest)) {
                // Somebody closed the descriptor behind our back. What it is now is nothing to watch.
                poller.disarm(registration);
                return poller.ask(registration, .now_and_then);
            }
            registration.watches = interest;
        } else poller.disarm(registration);
        poller.ask(registration, plan.asks);
    }

    fn ask(poller: *Poller, registration: *Registration, asks: events.Plan.Asks) void {
        if (registration.asks == asks) return;
        poller.lists.getPtr(registration.asks).remove(&registration.in_poller);
        registration.asks = asks;
        const list = poller.lists.getPtr(asks);
        // Not all of these are asked by each wait: the newest first.
        if (asks == .now_and_then) list.prepend(&registration.in_poller) else list.append(&registration.in_poller);
        poller.setUnasked(registration, asks == .now_and_then);
    }

    fn setUnasked(poller: *Poller, registration: *Registration, is_unasked: bool) void {
        if (registration.is_unasked == is_unasked) return;
        registration.is_unasked = is_unasked;
        if (is_unasked) poller.unasked_count += 1 else poller.unasked_count -= 1;
    }

    /// Plans anew after something became known, and tells the threads that sleep by the old plan: the report that this
    /// thread heard may be the only one. False if the plan is the same.
    fn settle(poller: *Poller, registration: *Registration) bool {
        const asks = registration.asks;
        const watches = registration.watches;
        var failure: status.Failure = .{};
        poller.apply(registration, registration.plan(), &failure) catch {
            // The system has no memory to watch it (ENOMEM, ENOSPC): look at it now and then instead.
            poller.ask(registration, .now_and_then);
        };
        if (registration.asks == asks and std.meta.eql(registration.watches, watches)) return false;
        poller.changed(registration);
        return true;
    }

    /// Where a wait puts what it reports.
    pub const Results = struct {
        sockets: [*]handles.Handle,
        events: [*]u32,
        capacity: usize,
        count: usize = 0,
        /// How many of them are of earlier turns.
        earlier_count: usize = 0,

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
                // The index may be that of an earlier wait, at the same place in memory.
                if (index < reported.len and reported[index] == handle) return index;
            }
            // It may have been reported in an earlier turn, and have left the poller and come again since.
            return std.mem.indexOfScalar(handles.Handle, reported[0..results.earlier_count], handle);
        }
    };

    /// Called without the lock, on a pinned poller. `place` keeps a wait's place between its pieces: 0 before the
    /// first.
    pub fn wait(
        poller: *Poller,
        results: *Results,
        timeout_ns: i64,
        place: *u32,
        failure: *status.Failure,
    ) status.Error!void {
        std.debug.assert(results.capacity > 0);
        return unfilled.with(platform.Selector.Snapshot, waitWith, .{ poller, results, timeout_ns, place, failure });
    }

    fn waitWith(
        shot: *platform.Selector.Snapshot,
        poller: *Poller,
        results: *Results,
        timeout_ns: i64,
        place: *u32,
        failure: *status.Failure,
    ) status.Error!void {
        shot.start();
        var one: Wait = .{
            .poller = poller,
            .shot = shot,
            .results = results,
            .place = place,
            .failure = failure,
            .deadline = .after(timeout_ns),
            .goes_on = place.* != places.none,
        };
        while (!try one.turn()) {}
    }

    /// One thread's wait. Each turn looks once at what stands and once at what the selector reports, and blocks only
    /// when nothing stands.
    const Wait = struct {
        poller: *Poller,
        shot: *platform.Selector.Snapshot,
        results: *Results,
        place: *u32,
        failure: *status.Failure,
        deadline: sys.Deadline,
        /// Whether this is not the wait's first piece.
        goes_on: bool,
        backoff: Backoff = .{},
        first_turn: bool = true,
        /// Whether what stands is collected before what the selector reports. Null before the first turn.
        standing_first: ?bool = null,
        /// Of the last turn.
        notice: waiters.Notice = .none,
        /// Of the first turn that may sleep on.
        spin: ?spinning.Wait = null,

        /// What the first half of a turn has found.
        const Begun = struct {
            woken: bool,
            /// Whether some sockets are to be asked now and then.
            rechecks: bool,
            blocks: bool,
            asked: status.Error!void,
        };

        // It and its parts are inline, so values stay in registers: 4 % of a wait that finds something.

        /// True when the wait is over.
        inline fn turn(one: *Wait) status.Error!bool {
            const poller = one.poller;
            one.shot.beginTurn();
            var waiter: waiters.Waiter = .{ .waker = poller.waker };
            one.results.earlier_count = one.results.count;
            const begun = try one.begin(&waiter);
            const room = one.results.room();
            const waited = if (room > 0) one.wait(room, begun) else {};

            handles.lock.lock();
            defer handles.lock.unlock();
            defer poller.endTurn(one.shot);
            one.notice = if (begun.blocks) poller.waiters.remove(&waiter) else .none;
            const over = one.conclude(begun, waited) catch |err| {
                one.learn(.other);
                return err;
            };
            if (over) one.learn(if (one.results.count > 0) .event else .time_is_up);
            one.first_turn = false;
            one.standing_first = true;
            return over;
        }

        inline fn begin(one: *Wait, waiter: *waiters.Waiter) status.Error!Begun {
            handles.lock.lock();
            defer handles.lock.unlock();
            const poller = one.poller;
            const results = one.results;
            try poller.check();
            if (one.standing_first == null) {
                one.standing_first = poller.standing_first;
                poller.standing_first = !poller.standing_first;
            }
            var asked: status.Error!void = {};
            if (one.standing_first.?) asked = one.collectStanding();
            const woken = poller.takeWake() or poller.hasClosed(one.place);
            const rechecks = poller.lists.get(.now_and_then).first != null;
            const stands = !one.standing_first.? and poller.lists.get(.always).first != null;
            // The first turn asks those too, if it finds nothing else, and any turn those that are new.
            const looks_first = poller.unasked_count > 0 or (one.first_turn and rechecks);
            const blocks = !woken and !stands and results.count == 0 and !looks_first;
            if (asked) |_| {} else |err| if (results.count == 0) return err;
            try poller.selector.snapshot(one.shot);
            if (blocks) {
                poller.waiters.add(waiter);
                if (one.spin == null and one.deadline != .now) one.spin = .begin(&poller.spinner, one.goes_on);
            }
            return .{ .woken = woken, .rechecks = rechecks, .blocks = blocks, .asked = asked };
        }

        inline fn wait(one: *Wait, room: usize, begun: Begun) status.Error!void {
            if (begun.blocks) {
                if (one.spin) |*spin| if (spin.looksFirst()) {
                    while (true) {
                        try one.shot.wait(room, 0, one.failure);
                        if (!one.shot.isEmpty()) return;
                        if (!spin.looksAgain(one.deadline)) break;
                    }
                };
            }
            return one.shot.wait(room, one.sleepNs(begun), one.failure);
        }

        inline fn sleepNs(one: *Wait, begun: Begun) ?u64 {
            if (!begun.blocks) return 0;
            const left_ns = one.deadline.remainingNs();
            return if (begun.rechecks) one.backoff.limit(left_ns) else left_ns;
        }

        inline fn conclude(one: *Wait, begun: Begun, waited: status.Error!void) status.Error!bool {
            const poller = one.poller;
            const results = one.results;
            var asked = begun.asked;
            if (poller.closing) return error.InvalidHandle;
            var woken = poller.hasClosed(one.place) or begun.woken;
            if (waited) |_| poller.collect(one.shot, results) else |err| {
                if (results.count == 0) return if (woken) error.Woken else err;
            }
            if (!one.standing_first.?) asked = one.collectStanding();
            if (poller.looksDue(results)) |due| one.collectNowAndThen(due) catch |err| {
                asked = err;
            };
            if (poller.takeWake()) woken = true;
            if (results.count == 0) {
                if (woken) return error.Woken;
                if (one.notice == .interrupt) return error.Interrupted;
                try asked;
                // A first turn that asked sockets has not waited yet. A later one ends when its time is up, also where
                // sockets to be asked keep coming.
                const has_waited = begun.blocks or !one.first_turn;
                if (!has_waited or one.deadline.remainingNs() != 0) return false;
                return poller.selector.isOver(one.shot, .nothing_found);
            }
            // If it slept and found something, the next wait can report the rest.
            const slept = begun.blocks and one.deadline != .now;
            const may_have_missed = !slept and results.room() > 0;
            return !may_have_missed or poller.selector.isOver(one.shot, .found);
        }

        fn learn(one: *Wait, ending: spinning.Ending) void {
            if (one.spin) |spin| spin.end(&one.poller.spinner, ending);
        }

        fn collectStanding(one: *Wait) status.Error!void {
            return one.poller.collectList(.always, one.results, one.poller.count, one.first_turn, one.failure);
        }

        fn collectNowAndThen(one: *Wait, due: LooksDue) status.Error!void {
            const poller = one.poller;
            // The waits of a foreign loop don't sleep: the loop does.
            const has_slept = !one.first_turn or (poller.is_shown and due == .by_time);
            const usual_max: usize = if (has_slept) looks_after_sleep_max else looks_before_sleep_max;
            const looks_max = @max(usual_max, poller.unasked_count);
            const revives = one.first_turn and (!poller.is_shown or due == .by_time);
            return poller.collectList(.now_and_then, one.results, looks_max, revives, one.failure);
        }
    };

    /// Whether one of the sockets was closed since the wait's place was taken. It is taken now if it was not before.
    fn hasClosed(poller: *const Poller, place: *u32) bool {
        const now = places.after(poller.closings_count);
        if (place.* == places.none) place.* = now;
        return place.* != now;
    }

    /// Gives to the other threads that wait what this one has taken, and does not return, of the selector's reports and
    /// of the waker's signals.
    fn endTurn(poller: *Poller, shot: *platform.Selector.Snapshot) void {
        poller.selector.discard(shot);
        poller.showWhatStands();
        if (poller.waiters.isEmpty()) return;
        poller.selector.reportToOthers();
        if (shot.signalsTaken() > 0) poller.waiters.signalAgain();
    }

    fn takeWake(poller: *Poller) bool {
        if (!poller.wake_requested) return false;
        poller.wake_requested = false;
        return true;
    }

    /// Why those that are asked now and then are asked.
    const LooksDue = enum { by_time, by_occasion };

    /// When there is nothing else to report, when one is new among them, and now and then besides.
    fn looksDue(poller: *Poller, results: *const Results) ?LooksDue {
        if (poller.lists.get(.now_and_then).first == null) return null;
        const now_ns = sys.monotonicNs();
        if (now_ns >= poller.looks_due_ns) {
            poller.looks_due_ns = now_ns + looks_interval_ns;
            poller.waits_without_looks = 0;
            return .by_time;
        }
        if (results.count > 0 and poller.unasked_count == 0 and poller.waits_without_looks < waits_without_looks_max) {
            poller.waits_without_looks += 1;
            return null;
        }
        poller.waits_without_looks = 0;
        return .by_occasion;
    }

    /// Asks the sockets themselves that no selector would tell of, at most `looks_max`. When one can't be asked, the
    /// others are; then that is the failure. With `revives`, those whose reports came to nothing are the selector's
    /// again: once in each wait, so that they can't spin the processor.
    fn collectList(
        poller: *Poller,
        comptime asks: events.Plan.Asks,
        results: *Results,
        looks_max: u64,
        revives: bool,
        failure: *status.Failure,
    ) status.Error!void {
        const list = poller.lists.getPtr(asks);
        const last = list.last;
        var next = list.first;
        var looks_count: u64 = 0;
        var asked: status.Error!void = {};
        while (next) |node| {
            if (results.room() == 0 or looks_count == looks_max) break;
            next = if (node == last) null else node.next;
            const registration: *Registration = .fromPoller(node);
            if (results.find(registration) != null) continue;
            looks_count += 1;
            poller.setUnasked(registration, false);
            const happened = socket_events.eventsOf(
                registration.socket,
                null,
                registration.asked,
                failure,
            ) catch |err| failed: {
                asked = err;
                break :failed 0;
            };
            if (happened != 0) results.add(registration, happened);
            poller.settleAfterLook(registration, happened, revives);
            // For the others' sake.
            if (registration.asks != asks or (asks == .always and happened == 0)) continue;
            list.remove(node);
            list.append(node);
        }
        return asked;
    }

    fn settleAfterLook(poller: *Poller, registration: *Registration, happened: u32, revives: bool) void {
        const to_settle = switch (registration.asks) {
            // The look has told how the attempt to connect ended, and `becameKnown` has settled it.
            .never => false,
            .always => happened == 0,
            .now_and_then => switch (registration.plan().asks) {
                .always => true,
                .never => registration.is_pausing or (happened == 0 and revives),
                .now_and_then => happened == 0 and revives,
            },
        };
        if (to_settle) _ = poller.settle(registration);
    }

    fn collect(poller: *Poller, shot: *platform.Selector.Snapshot, results: *Results) void {
        while (results.room() > 0) {
            const report = shot.next() orelse return;
            if (report.handle == 0) continue; // the waker: notices say what it is about
            const socket = handles.table.find(report.handle) orelse continue;
            const registration = poller.find(socket) orelse continue;
            // It may have moved since the selector was asked.
            const interest = registration.watches orelse continue;
            const changes_before = socket_events.changesOf(socket);
            var failure: status.Failure = .{};
            // A socket that can't be asked has nothing to report now, and is asked again.
            var lost = false;
            const happened = socket_events.eventsOf(
                socket,
                report.conditions,
                registration.asked,
                &failure,
            ) catch failed: {
                lost = !report.repeats;
                break :failed 0;
            };
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
            // It had something to report: a part of a message.
            if (changes_before != socket_events.changesOf(socket)) continue;
            // The selector would report it for ever. Either what is known now makes it of no more interest, or nobody
            // foresaw this state of the system, which must not spin the processor.
            if (poller.settle(registration) or (!report.repeats and !lost)) continue;
            if (!std.meta.eql(registration.watches, @as(?events.Interest, interest))) continue;
            poller.disarm(registration);
            poller.ask(registration, .now_and_then);
            // It has just been asked.
            poller.setUnasked(registration, false);
            poller.changed(registration);
        }
    }
};

//! The lock of POSIX systems.

const std = @import("std");
const kernel = @import("kernel.zig").kernel;

/// A lock for short sections. Not fair and not recursive: a thread that finds it taken spins for a moment, then sleeps
/// in the kernel (Drepper, Futexes Are Tricky).
pub const Lock = struct {
    state: std.atomic.Value(u32) = .init(unlocked),

    const unlocked = 0;
    const locked = 1;
    const contended = 2;
    const spins_max = 100;

    pub fn lock(self: *Lock) void {
        if (self.state.cmpxchgWeak(unlocked, locked, .acquire, .monotonic) == null) return;
        self.lockSlowly();
    }

    fn lockSlowly(self: *Lock) void {
        @branchHint(.cold);
        for (0..spins_max) |_| {
            if (self.state.load(.monotonic) == unlocked) {
                if (self.state.cmpxchgWeak(unlocked, locked, .acquire, .monotonic) == null) return;
            }
            std.atomic.spinLoopHint();
        }
        while (self.state.swap(contended, .acquire) != unlocked) kernel.sleepWhile(&self.state.raw, contended);
    }

    pub fn unlock(self: *Lock) void {
        const before = self.state.swap(unlocked, .release);
        std.debug.assert(before != unlocked);
        if (before == contended) kernel.wakeOne(&self.state.raw);
    }

    /// In a forked child, for its only thread, which took the lock before the fork. The sleepers stayed behind.
    pub fn resetAfterFork(self: *Lock) void {
        self.state.store(unlocked, .release);
    }
};

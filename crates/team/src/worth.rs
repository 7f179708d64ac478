//! Decides whether a helper is worth using, by comparing the time that it saves with the time that the caller waits for it.
//!
//! If another process takes a helper's CPU in the middle of a piece of work, the section waits until the helper gets a CPU again. That takes
//! some milliseconds, the time of a hundred sections, so in competition with such a process two threads are slower than one. Therefore the
//! caller adds up, for each helper, the time that it saved and the time that the caller waited for it. If a helper costs more than half of what
//! it saves, the caller acts:
//! 1. The helper works in short shifts and rests as long between them. A thread that sleeps now and then has scheduler time left: the system
//!    gives it a CPU as soon as it wakes, and seldom takes it away during a short shift (kernels/EXPERIMENTS.md has figures).
//! 2. Shifts become longer while none is interrupted, and finally unlimited, because the other process may have gone. The first interruption
//!    makes them short again, and they grow more slowly from then on.
//! 3. If the helper still costs more than it saves, the caller pauses it, longer after each attempt that fails.

use std::time::Duration;

/// A shorter wait does not indicate a lost CPU, because interrupts and unequal pieces take as long.
const SHORT_WAIT: Duration = Duration::from_micros(150);
/// The length of the first shift after an interruption, and of the rest before it unless the helper is paused.
const SHIFT: Duration = Duration::from_millis(1);
/// The factor by which shifts grow.
const GROWTH: u32 = 4;
/// A shift that would become longer than this is unlimited.
const LONGEST_SHIFT: Duration = Duration::from_millis(20);
/// The number of uninterrupted shifts after which shifts grow for the first time: its first and its largest value.
const SHIFTS: (u32, u32) = (8, 256);
/// If the caller computes this long in a section, even a helper with half a CPU saves time, so the section does not count towards a shift.
const LONG_SECTION: Duration = Duration::from_millis(4);
/// The first pause, and the longest. Pauses and rests are counted in time that the caller computes.
const PAUSE: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(512));
/// A pause also ends when this multiple of its length has passed by the clock, so that a team with little work tries its helpers again.
const IDLE_TIMES: u32 = 8;
/// When a helper has saved more time than this since its last pause, its next pause is the shortest again.
const PROOF: Duration = Duration::from_millis(40);
/// When the times that a helper saved and cost exceed this together, both are halved, so that old observations fade.
const MEMORY: Duration = Duration::from_millis(80);

/// Whether the caller, which finished its own part after `own`, has waited so long that the helper must have lost its CPU. With large pieces of work,
/// a wait of half of `own` is normal.
pub(crate) fn is_late(own: Duration, wait: Duration) -> bool {
    wait > SHORT_WAIT.max(own / 2)
}

/// What is known of one helper.
#[derive(Debug)]
pub(crate) struct Worth {
    /// Time that the helper saved, estimated as the time that the caller computed in the same sections.
    brought: Duration,
    /// Time that the caller waited for the helper when it was late.
    cost: Duration,
    /// Time that the helper saved since its last pause.
    proof: Duration,
    /// Length of the next pause.
    pause: Duration,
    /// The length of a shift, and how long the current one has lasted; `None`: unlimited.
    shift: Option<(Duration, Duration)>,
    /// Uninterrupted shifts so far, and the number after which shifts become longer.
    shifts: (u32, u32),
    /// While the helper is left out: the time that remains, and the moment at which it ends by the clock.
    rest: Option<(Duration, Duration)>,
}

impl Worth {
    pub(crate) const NEW: Worth = Worth {
        brought: Duration::ZERO,
        cost: Duration::ZERO,
        proof: Duration::ZERO,
        pause: PAUSE.0,
        shift: None,
        shifts: (0, SHIFTS.0),
        rest: None,
    };

    /// Whether the helper is left out.
    pub(crate) fn rests(&self) -> bool {
        self.rest.is_some()
    }

    /// Records a section that ended at `now` and in which the caller computed for `own`. Does nothing unless the helper is left out; returns
    /// whether it may now work again.
    pub(crate) fn went_without(&mut self, own: Duration, now: Duration) -> bool {
        let Some((left, until)) = self.rest else { return false };
        let left = left.saturating_sub(own);
        let is_over = left.is_zero() || now >= until;
        self.rest = if is_over { None } else { Some((left, until)) };
        is_over
    }

    /// Records that the helper took part in a section that ended at `now`, and saved the caller up to `own`. Returns whether its shift is over,
    /// so that it is left out from now on.
    pub(crate) fn helped(&mut self, own: Duration, now: Duration) -> bool {
        self.brought += own;
        self.proof += own;
        if self.proof > PROOF {
            self.pause = PAUSE.0;
        }
        if self.brought + self.cost > MEMORY {
            (self.brought, self.cost) = (self.brought / 2, self.cost / 2);
        }
        let Some((length, worked)) = &mut self.shift else { return false };
        if own >= LONG_SECTION {
            return false;
        }
        *worked += own;
        if *worked < *length {
            return false;
        }
        let rest = *length;
        *worked = Duration::ZERO;
        self.shifts.0 += 1;
        if self.shifts.0 >= if *length > SHIFT { SHIFTS.0 } else { self.shifts.1 } {
            *length *= GROWTH;
            self.shifts.0 = 0;
        }
        if *length > LONGEST_SHIFT {
            (self.shift, self.shifts.1) = (None, SHIFTS.0);
        }
        self.leave_out(rest, now);
        true
    }

    /// Records that the helper was late: the caller finished after `own` and waited until `now`. Returns whether the helper is left out from now on.
    pub(crate) fn was_late(&mut self, own: Duration, wait: Duration, now: Duration) -> bool {
        // The helper may have done half of its piece before it lost its CPU, or nothing.
        self.brought += own / 2;
        self.cost += wait;
        // The caller's time is the most that a helper can save; where memory is the limit it saves much less.
        let is_worth_it = self.cost * 2 <= self.brought;
        let rest = match (self.shift, is_worth_it) {
            (None, true) => return false,
            (None, false) | (Some(_), true) => SHIFT,
            (Some(_), false) => self.pause,
        };
        if self.shift.is_some() {
            self.shifts.1 = (self.shifts.1 * 2).min(SHIFTS.1);
            if !is_worth_it {
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
        }
        (self.shift, self.shifts.0) = (Some((SHIFT, Duration::ZERO)), 0);
        if !is_worth_it {
            (self.brought, self.cost, self.proof) = Default::default();
        }
        self.leave_out(rest, now);
        true
    }

    /// Leaves the helper out until the caller has computed for `rest`, or [`IDLE_TIMES`] that has passed by the clock.
    fn leave_out(&mut self, rest: Duration, now: Duration) {
        self.rest = Some((rest, now + rest * IDLE_TIMES));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Lets the caller compute alone until the helper may work again. Returns how many milliseconds that took.
    fn rest_of(worth: &mut Worth) -> u64 {
        assert!(worth.rests());
        let mut rest = 1;
        while !worth.went_without(ms(1), Duration::ZERO) {
            rest += 1;
        }
        assert!(!worth.rests() && !worth.went_without(ms(1), Duration::ZERO));
        rest
    }

    /// Interrupts a helper, so that the caller waits for 4 ms. Returns how many milliseconds the helper is then left out.
    fn interrupt(worth: &mut Worth) -> u64 {
        assert!(worth.was_late(Duration::ZERO, ms(4), Duration::ZERO));
        rest_of(worth)
    }

    #[test]
    fn late_is_longer_than_a_hitch_and_than_half_of_the_own_part() {
        let us = Duration::from_micros;
        assert!(is_late(us(50), us(200)) && !is_late(us(50), us(100)));
        assert!(is_late(ms(2), us(1100)) && !is_late(ms(2), us(900)));
    }

    #[test]
    fn a_rare_hitch_is_forgiven_and_a_busy_neighbour_is_not() {
        let mut worth = Worth::NEW;
        (0..1000).for_each(|_| assert!(!worth.helped(Duration::from_micros(50), Duration::ZERO)));
        assert!(!worth.was_late(Duration::from_micros(50), ms(4), ms(60)) && !worth.rests());
        // Four milliseconds of help, then as many without a CPU, again and again.
        let mut turns = 0;
        while !worth.rests() {
            worth.helped(ms(4), ms(70));
            worth.was_late(Duration::ZERO, ms(4), ms(70));
            turns += 1;
        }
        assert!(turns <= 10, "{turns}");
    }

    #[test]
    fn shifts_are_short_and_grow_while_none_is_interrupted() {
        let mut worth = Worth::NEW;
        assert_eq!(interrupt(&mut worth), 1);
        let mut shifts = Vec::new();
        while worth.shift.is_some() {
            let mut worked = 1;
            while !worth.helped(ms(1), Duration::ZERO) {
                worked += 1;
            }
            assert_eq!(rest_of(&mut worth), worked);
            shifts.push(worked);
        }
        assert_eq!(shifts, [vec![1; 8], vec![4; 8], vec![16; 8]].concat());
        assert!((0..1000).all(|_| !worth.helped(ms(1), Duration::ZERO)));
    }

    #[test]
    fn an_interruption_makes_shifts_short_and_their_growth_late() {
        let mut worth = Worth::NEW;
        interrupt(&mut worth);
        for needed in [8, 16, 32, 64, 128, 256, 256] {
            for shift in 0..needed {
                assert_eq!(worth.shift, Some((ms(1), Duration::ZERO)), "{shift} of {needed}");
                assert!(worth.helped(ms(1), Duration::ZERO));
                assert_eq!(rest_of(&mut worth), 1);
            }
            assert_eq!(worth.shift, Some((ms(4), Duration::ZERO)));
            // The helper has saved so much time that the next interruption is followed by a rest, not a pause.
            worth.brought = ms(50);
            assert_eq!(interrupt(&mut worth), 1);
        }
    }

    #[test]
    fn long_sections_belong_to_no_shift() {
        let mut worth = Worth::NEW;
        interrupt(&mut worth);
        assert!((0..100).all(|_| !worth.helped(ms(10), Duration::ZERO)));
        assert!(worth.helped(ms(1), Duration::ZERO));
    }

    #[test]
    fn pauses_grow_while_trying_fails_and_begin_anew_after_help() {
        let mut worth = Worth::NEW;
        let pauses: Vec<u64> = (0..9).map(|_| interrupt(&mut worth)).collect();
        assert_eq!(pauses, [1, 8, 16, 32, 64, 128, 256, 512, 512]);
        // The helper saves less than `PROOF`, so the next pause is still the longest; then more, and it is the shortest again.
        worth.helped(ms(3), Duration::ZERO);
        assert_eq!(rest_of(&mut worth), 1);
        assert_eq!(interrupt(&mut worth), 512);
        (0..41).for_each(|_| assert!(worth.helped(ms(1), Duration::ZERO) && rest_of(&mut worth) >= 1));
        (worth.brought, worth.cost) = (Duration::ZERO, Duration::ZERO);
        assert_eq!(interrupt(&mut worth), 8);
    }

    #[test]
    fn the_clock_ends_the_rest_of_a_team_with_little_to_do() {
        let mut worth = Worth::NEW;
        assert!(worth.was_late(Duration::ZERO, ms(4), ms(100)));
        assert!(!worth.went_without(Duration::ZERO, ms(101)));
        assert!(worth.went_without(Duration::ZERO, ms(108)));
    }
}

//! Estimates what it takes to embed a corpus: the counts of a sample and a measured speed give tokens, hours, machines, cost and bytes.
//!
//! ```
//! use trivec::corpus::{Counts, Estimate, Job, Layout, Speed, Whole};
//!
//! // Two parts of a corpus of 80,000 bytes, each with two texts.
//! let part = |ids: [&[u32]; 2]| {
//!     let mut counts = Counts { bytes: 40, ..Counts::default() };
//!     ids.into_iter().for_each(|ids| counts.add(ids, false));
//!     counts
//! };
//! let parts = [part([&[0, 9, 8, 2], &[0, 7, 2]]), part([&[0, 9, 2], &[0, 5, 6, 7, 2]])];
//! let corpus = Estimate::of(&parts, Whole::Bytes(80_000))?;
//! assert_eq!((corpus.records, corpus.tokens), (4000.0, 15_000.0));
//!
//! // A machine that takes 8 texts of 128 tokens in a second, and 64 of them for the whole corpus.
//! let speed = Speed::fit(&[(vec![128; 8], 1.0)])?;
//! let plan = Job { machines: Some(64), price: Some(0.5), ..Job::default() }.plan(&corpus, &speed)?;
//! assert!((plan.machine_hours - 15_000.0 / 1024.0 / 3600.0).abs() < 1e-9);
//!
//! // Dense vectors of 1,024 f32 values, one after another.
//! assert_eq!(Layout { record: 4096.0, ..Layout::default() }.bytes(&corpus, 1.0), 4000.0 * 4096.0);
//! # Ok::<(), trivec::Error>(())
//! ```

use crate::error::{Error, Result};

/// The ids below this number are those of an XLM-RoBERTa vocabulary that never have a lexical weight: `<s>`, `<pad>`, `</s>`, `<unk>`.
const SPECIAL_IDS: u32 = 4;
/// 95 of 100 samples lie within this many standard errors of the true value.
const SPREAD: f64 = 1.96;

/// What was counted in one part of a corpus, or in one of its records.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Bytes that the part takes in the file from which it was read. Only [`Whole::Bytes`] needs them.
    pub bytes: u64,
    /// Texts in the part.
    pub records: u64,
    /// Tokens of these texts, `<s>` and `</s>` included, at most as many of each as the model keeps.
    pub tokens: u64,
    /// The sum of their squared token counts, to which the time of attention is proportional.
    pub squares: f64,
    /// The number of distinct ids of each text without the special ones, summed over the texts: the most lexical weights they can have.
    pub ids: u64,
    /// How many texts were cut.
    pub truncated: u64,
    /// Tokens of the longest text.
    pub longest: u64,
}

impl Counts {
    /// Counts one text by its token ids.
    pub fn add(&mut self, ids: &[u32], truncated: bool) {
        let tokens = ids.len() as u64;
        let mut distinct: Vec<u32> = ids.iter().copied().filter(|&id| id >= SPECIAL_IDS).collect();
        distinct.sort_unstable();
        distinct.dedup();
        self.records += 1;
        self.tokens += tokens;
        self.squares += (tokens * tokens) as f64;
        self.ids += distinct.len() as u64;
        self.truncated += u64::from(truncated);
        self.longest = self.longest.max(tokens);
    }
}

/// The size of the corpus from which a sample was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Whole {
    /// The corpus has this many bytes. A part of the sample has [`Counts::bytes`] of them.
    Bytes(u64),
    /// The corpus has this many records. A part of the sample has [`Counts::records`] of them.
    Records(u64),
}

/// The counts of a whole corpus, estimated from a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Texts.
    pub records: f64,
    /// Tokens of all texts.
    pub tokens: f64,
    /// Sum of the squared token counts.
    pub squares: f64,
    /// The number of distinct ids of each text without the special ones, summed over the texts.
    pub ids: f64,
    /// Texts that the model cuts.
    pub truncated: f64,
    /// Tokens of the longest text of the sample.
    pub longest: u64,
    /// In 95 of 100 samples the true number of tokens is at most this far above or below `tokens`. 0 if the whole corpus was counted,
    /// infinite if the sample has a single part.
    pub tokens_off: f64,
}

impl Estimate {
    /// Estimates the counts of the whole corpus from parts that were taken evenly from all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if the parts hold no records or bytes, or more of them than the whole.
    pub fn of(parts: &[Counts], whole: Whole) -> Result<Estimate> {
        let (unit, whole): (fn(&Counts) -> u64, u64) = match whole {
            Whole::Bytes(bytes) => (|part| part.bytes, bytes),
            Whole::Records(records) => (|part| part.records, records),
        };
        let sampled: u64 = parts.iter().map(unit).sum();
        let sum = |of: fn(&Counts) -> f64| parts.iter().map(of).sum::<f64>();
        if sampled == 0 || sampled > whole || sum(|part| part.records as f64) == 0.0 {
            let what =
                format!("found {sampled} of {whole} in {} parts, expected some, and not more than all", parts.len());
            return Err(Error::Option { option: "sample", what });
        }
        let factor = whole as f64 / sampled as f64;
        let tokens = sum(|part| part.tokens as f64);
        Ok(Estimate {
            records: factor * sum(|part| part.records as f64),
            tokens: factor * tokens,
            squares: factor * sum(|part| part.squares),
            ids: factor * sum(|part| part.ids as f64),
            truncated: factor * sum(|part| part.truncated as f64),
            longest: parts.iter().map(|part| part.longest).max().unwrap_or(0),
            tokens_off: factor * off(parts, unit, tokens / sampled as f64, sampled as f64 / whole as f64),
        })
    }

    /// The estimate of two corpora together.
    pub fn and(self, other: Estimate) -> Estimate {
        Estimate {
            records: self.records + other.records,
            tokens: self.tokens + other.tokens,
            squares: self.squares + other.squares,
            ids: self.ids + other.ids,
            truncated: self.truncated + other.truncated,
            longest: self.longest.max(other.longest),
            tokens_off: self.tokens_off.hypot(other.tokens_off),
        }
    }

    /// The seconds in which one machine of that speed embeds the corpus.
    pub fn seconds(&self, speed: &Speed) -> f64 {
        speed.per_token * self.tokens + speed.per_square * self.squares
    }
}

/// By how many tokens the sample's count may be off in 95 of 100 samples: the standard error of a ratio estimator over the parts. `ratio` is
/// the sample's tokens per `unit`. `taken` is the share of the whole that was sampled: the more it is, the smaller the error.
fn off(parts: &[Counts], unit: fn(&Counts) -> u64, ratio: f64, taken: f64) -> f64 {
    let count = parts.len() as f64;
    if taken >= 1.0 {
        return 0.0;
    }
    if parts.len() < 2 {
        return f64::INFINITY;
    }
    let squares: f64 = parts.iter().map(|part| (part.tokens as f64 - ratio * unit(part) as f64).powi(2)).sum();
    SPREAD * (count * squares / (count - 1.0) * (1.0 - taken)).sqrt()
}

/// How fast a machine is: it takes `per_token` × tokens + `per_square` × tokens² seconds for each text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Seconds for a token, whatever text it is in.
    pub per_token: f64,
    /// Seconds for each pair of tokens of a text: attention.
    pub per_square: f64,
}

impl Speed {
    /// Fits the speed to measured batches, each given as the token counts of its texts and the seconds that it took. The batches should be
    /// large enough to keep a machine busy: for a single short text, most of the time goes into reading the weights.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) if there is no batch, or if one has no tokens, or seconds that are not finite and above 0.
    pub fn fit(batches: &[(Vec<usize>, f64)]) -> Result<Speed> {
        let refuse = |what: String| Err(Error::Option { option: "batches", what });
        if batches.is_empty() {
            return refuse("found none, expected at least one".to_owned());
        }
        // Least squares of relative errors, so that a short batch counts as much as a long one.
        let mut rows = Vec::new();
        for (index, (lengths, seconds)) in batches.iter().enumerate() {
            let tokens: f64 = lengths.iter().map(|&length| length as f64).sum();
            let squares: f64 = lengths.iter().map(|&length| (length as f64).powi(2)).sum();
            if !(*seconds > 0.0 && seconds.is_finite() && tokens > 0.0) {
                return refuse(format!("batch {index}: found {tokens} tokens in {seconds} s, expected both above 0"));
            }
            rows.push((tokens / seconds, squares / seconds));
        }
        let sum = |of: fn(&(f64, f64)) -> f64| rows.iter().map(of).sum::<f64>();
        let (aa, ab, bb) = (sum(|r| r.0 * r.0), sum(|r| r.0 * r.1), sum(|r| r.1 * r.1));
        let (a, b) = (sum(|r| r.0), sum(|r| r.1));
        let determinant = aa * bb - ab * ab;
        if determinant > 1e-9 * aa * bb {
            let (per_token, per_square) = ((a * bb - b * ab) / determinant, (aa * b - ab * a) / determinant);
            if per_token > 0.0 && per_square >= 0.0 {
                return Ok(Speed { per_token, per_square });
            }
        }
        // The batches do not tell the two apart, or fit only with a negative one: all time is put down to tokens.
        Ok(Speed { per_token: a / aa, per_square: 0.0 })
    }
}

/// How a corpus is to be embedded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// Machines, all as fast as the one that was measured. `None`: as many as `hours` needs, or one if `hours` is `None` too.
    pub machines: Option<u32>,
    /// Hours in which it must be done.
    pub hours: Option<f64>,
    /// The share of the measured speed that a machine reaches during the job, above 0 and up to 1.
    pub efficiency: f64,
    /// What one machine costs per hour, in any currency.
    pub price: Option<f64>,
}

impl Default for Job {
    fn default() -> Self {
        Job { machines: None, hours: None, efficiency: 1.0, price: None }
    }
}

/// What a job takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Hours of work, if one machine does it all.
    pub machine_hours: f64,
    /// How many machines share the work.
    pub machines: u32,
    /// Hours from start to end.
    pub hours: f64,
    /// `machine_hours` × price, if a price was given.
    pub cost: Option<f64>,
    /// Tokens that one machine embeds per second, with the job's efficiency.
    pub tokens_s: f64,
}

impl Job {
    /// Computes what the job takes for that corpus on machines of that speed.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) names the field that makes no sense: 0 machines, hours, price or efficiency out of range,
    /// machines and hours together, or so few hours that more machines would be needed than can be counted.
    pub fn plan(&self, corpus: &Estimate, speed: &Speed) -> Result<Plan> {
        let refuse = |option: &'static str, what: String| Err(Error::Option { option, what });
        if !(self.efficiency > 0.0 && self.efficiency <= 1.0) {
            return refuse("efficiency", format!("found {}, expected a share above 0, at most 1", self.efficiency));
        }
        if let Some(price) = self.price.filter(|price| !(*price >= 0.0 && price.is_finite())) {
            return refuse("price", format!("found {price}, expected 0 or more an hour"));
        }
        let seconds = corpus.seconds(speed) / self.efficiency;
        let machine_hours = seconds / 3600.0;
        let machines = match (self.machines, self.hours) {
            (Some(_), Some(_)) => {
                return refuse("hours", "machines are given as well: expected one of the two".to_owned());
            }
            (Some(0), None) => return refuse("machines", "found 0, expected at least 1".to_owned()),
            (Some(machines), None) => machines,
            (None, Some(hours)) if hours > 0.0 && hours.is_finite() => {
                let machines = (machine_hours / hours).ceil().max(1.0);
                if machines > f64::from(u32::MAX) {
                    return refuse(
                        "hours",
                        format!("found {hours}, in which {machine_hours:.0} hours of one machine do not fit"),
                    );
                }
                machines as u32
            }
            (None, Some(hours)) => return refuse("hours", format!("found {hours}, expected more than 0")),
            (None, None) => 1,
        };
        Ok(Plan {
            machine_hours,
            machines,
            hours: machine_hours / f64::from(machines),
            cost: self.price.map(|price| price * machine_hours),
            tokens_s: if seconds > 0.0 { corpus.tokens / seconds } else { 0.0 },
        })
    }
}

/// How many bytes each part of an output takes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Layout {
    /// Bytes that the output takes however many texts it has: its header.
    pub file: f64,
    /// Bytes of each text, its dense vector included.
    pub record: f64,
    /// Bytes of each lexical weight.
    pub weight: f64,
    /// Bytes of each ColBERT row, of which a text has one for every token after `<s>`.
    pub row: f64,
}

impl Layout {
    /// Returns the bytes that the output of a corpus takes. `weighted` is the share of a text's distinct token ids that get a lexical weight.
    pub fn bytes(&self, corpus: &Estimate, weighted: f64) -> f64 {
        let rows = (corpus.tokens - corpus.records).max(0.0);
        self.file + self.record * corpus.records + self.weight * weighted * corpus.ids + self.row * rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part with texts of these numbers of tokens. Those of more than 4 tokens count as cut.
    fn part(bytes: u64, lengths: &[u32]) -> Counts {
        let mut counts = Counts { bytes, ..Counts::default() };
        lengths.iter().for_each(|&length| counts.add(&(0..length).collect::<Vec<_>>(), length > 4));
        counts
    }

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn ids_are_counted_once_and_special_ones_not_at_all() {
        let mut counts = Counts::default();
        counts.add(&[0, 9, 4, 9, 3, 2], true);
        let expected = Counts { records: 1, tokens: 6, squares: 36.0, ids: 2, truncated: 1, longest: 6, bytes: 0 };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_corpus_that_was_counted_whole_has_no_error() {
        let parts = [part(10, &[3, 5]), part(30, &[4])];
        for whole in [Whole::Bytes(40), Whole::Records(3)] {
            let all = Estimate::of(&parts, whole).unwrap();
            assert_eq!((all.records, all.tokens, all.tokens_off), (3.0, 12.0, 0.0));
            assert_eq!((all.squares, all.truncated, all.longest, all.ids), (50.0, 1.0, 5, 1.0));
        }
    }

    /// The parts have equal sizes, so the error of the estimate is that of a sample's mean, times the number of parts in the whole.
    #[test]
    fn the_error_is_that_of_a_mean() {
        let parts: Vec<Counts> = [2, 4, 4, 6].iter().map(|&tokens| part(100, &[tokens])).collect();
        let whole = Estimate::of(&parts, Whole::Bytes(4_000_000)).unwrap();
        assert_eq!(whole.tokens, 160_000.0);
        // The sample's standard deviation is √(8/3) and the standard error of a mean of four √(2/3). The whole has 40,000 parts, and the
        // share that was sampled is too small to count.
        let expected = 1.96 * (2.0f64 / 3.0).sqrt() * 40_000.0;
        assert!((whole.tokens_off / expected - 1.0).abs() < 1e-3, "{} {expected}", whole.tokens_off);
        let alike = Estimate::of(&[part(10, &[4]), part(20, &[4, 4])], Whole::Bytes(3000)).unwrap();
        assert_eq!(alike.tokens_off, 0.0);
        assert_eq!(Estimate::of(&parts[..1], Whole::Records(9)).unwrap().tokens_off, f64::INFINITY);
        let both = Estimate { tokens: 1.0, tokens_off: 3.0, ..alike }.and(Estimate { tokens_off: 4.0, ..alike });
        assert_eq!((both.tokens_off, both.tokens), (5.0, 1.0 + alike.tokens));
    }

    #[test]
    fn empty_samples_and_samples_larger_than_the_whole_are_refused() {
        for parts in [&[][..], &[Counts::default()], &[part(50, &[3])], &[Counts { bytes: 5, ..Counts::default() }]] {
            assert!(refused(Estimate::of(parts, Whole::Bytes(20))).contains("of 20"), "{parts:?}");
        }
    }

    #[test]
    fn a_known_speed_is_fitted_from_its_batches() {
        let known = Speed { per_token: 1e-3, per_square: 2e-6 };
        let batch = |lengths: &[usize]| {
            let seconds = |&n: &usize| known.per_token * n as f64 + known.per_square * (n * n) as f64;
            (lengths.to_vec(), lengths.iter().map(seconds).sum::<f64>())
        };
        let found = Speed::fit(&[batch(&[128; 8]), batch(&[512]), batch(&[10, 20, 900])]).unwrap();
        assert!((found.per_token / known.per_token - 1.0).abs() < 1e-6, "{found:?}");
        assert!((found.per_square / known.per_square - 1.0).abs() < 1e-6, "{found:?}");
        // One batch, or several whose texts all have one length, tell nothing of squares. Nor do long texts that take less time per token
        // than short ones.
        for batches in [
            vec![(vec![4; 8], 0.5)],
            vec![(vec![4; 8], 0.5), (vec![4; 16], 1.0)],
            vec![(vec![64], 1.0), (vec![640], 2.0)],
        ] {
            let found = Speed::fit(&batches).unwrap();
            assert!(found.per_token > 0.0 && found.per_square == 0.0, "{found:?}");
        }
        assert!((Speed::fit(&[(vec![4; 8], 0.5)]).unwrap().per_token - 0.5 / 32.0).abs() < 1e-12);
        for batches in [vec![], vec![(vec![], 1.0)], vec![(vec![3], 0.0)], vec![(vec![3], f64::NAN)]] {
            assert!(refused(Speed::fit(&batches)).starts_with("batches: "), "{batches:?}");
        }
    }

    #[test]
    fn hours_and_machines_follow_from_each_other() {
        let corpus = Estimate { records: 1e6, tokens: 36e7, ..Estimate::default() };
        let speed = Speed { per_token: 1e-3, per_square: 0.0 };
        let plan = |job: Job| job.plan(&corpus, &speed);
        let alone = plan(Job::default()).unwrap();
        assert_eq!((alone.machine_hours, alone.machines, alone.hours, alone.cost), (100.0, 1, 100.0, None));
        assert!((alone.tokens_s - 1000.0).abs() < 1e-9);
        let eight = plan(Job { machines: Some(8), price: Some(0.25), efficiency: 0.5, ..Job::default() }).unwrap();
        assert_eq!((eight.machine_hours, eight.hours, eight.cost), (200.0, 25.0, Some(50.0)));
        let quick = plan(Job { hours: Some(30.0), ..Job::default() }).unwrap();
        assert_eq!((quick.machines, quick.hours), (4, 25.0));
        for (job, said) in [
            (Job { machines: Some(0), ..Job::default() }, "machines: found 0"),
            (Job { machines: Some(1), hours: Some(1.0), ..Job::default() }, "hours: machines are given"),
            (Job { hours: Some(0.0), ..Job::default() }, "hours: found 0"),
            (Job { hours: Some(f64::NAN), ..Job::default() }, "hours: found NaN"),
            (Job { hours: Some(1e-12), ..Job::default() }, "hours: found 0.000000000001, in which 100"),
            (Job { efficiency: 0.0, ..Job::default() }, "efficiency: found 0"),
            (Job { efficiency: 1.5, ..Job::default() }, "efficiency: found 1.5"),
            (Job { price: Some(-1.0), ..Job::default() }, "price: found -1"),
            (Job { price: Some(f64::INFINITY), ..Job::default() }, "price: found inf"),
        ] {
            let found = refused(plan(job));
            assert!(found.starts_with(said), "{found}");
        }
    }

    #[test]
    fn bytes_are_those_of_each_part() {
        let corpus = Estimate { records: 10.0, tokens: 50.0, ids: 20.0, ..Estimate::default() };
        let layout = Layout { file: 1.0, record: 100.0, weight: 8.0, row: 1000.0 };
        assert_eq!(layout.bytes(&corpus, 0.5), 1.0 + 1000.0 + 80.0 + 40_000.0);
    }
}

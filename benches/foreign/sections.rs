//! A forward pass as threads see it: 200 short sections one after another, each cut into tasks. By `trivec_team`, by rayon inside one `install`, and
//! by rayon called from outside its pool for every section. All three use all threads of this machine.
//!
//! A task reads and sums 16 KB. Before anything is timed, the sums are compared.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rayon::prelude::*;
use trivec_team::Team;

/// Sections of a pass.
const SECTIONS: usize = 200;
/// Values of a task.
const TASK: usize = 4096;

/// The work of a task: a sum in eight lanes, which the compiler makes vectors of.
fn sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0f32; 8];
    for chunk in values.chunks_exact(8) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

/// A pass by the team: in each section the threads take tasks until none is left.
fn by_team(team: &Team, tasks: &[&[f32]]) -> f64 {
    let total = Mutex::new(0.0);
    for _ in 0..SECTIONS {
        let next = AtomicUsize::new(0);
        team.run(&|_| {
            let mut own = 0.0;
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                own += sum(task);
            }
            *total.lock().unwrap_or_else(PoisonError::into_inner) += own;
        });
    }
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// A section by rayon, on the threads of the pool that it is called in.
fn section(tasks: &[&[f32]]) -> f64 {
    tasks.par_iter().map(|task| sum(task)).sum()
}

fn sections(c: &mut Criterion) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let team = Team::new(threads).expect("the system has threads");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("the system has threads");
    let mut group = c.benchmark_group(format!("{SECTIONS} sections on {threads} threads"));
    for tasks in [2, 8, 32, 128] {
        let values = vec![1.0f32; TASK * tasks];
        let list: Vec<&[f32]> = values.chunks_exact(TASK).collect();
        type Pass<'a> = &'a dyn Fn() -> f64;
        let passes: [(&str, Pass<'_>); 3] = [
            ("team", &|| by_team(&team, &list)),
            ("rayon, inside", &|| pool.install(|| (0..SECTIONS).map(|_| section(&list)).sum())),
            ("rayon, from outside", &|| (0..SECTIONS).map(|_| pool.install(|| section(&list))).sum()),
        ];
        for (name, pass) in passes {
            assert_eq!(pass(), (SECTIONS * tasks * TASK) as f64, "{name}");
            group.bench_function(BenchmarkId::new(name, format!("{tasks} tasks")), |b| b.iter(pass));
        }
    }
    group.finish();
}

criterion_group!(benches, sections);
criterion_main!(benches);

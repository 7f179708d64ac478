//! The workloads of all benches, read from `workloads.json`, which `tools/peers/bench.py` and a test of `trivec bench` read too.
//!
//! | list | what it is | used by |
//! |---|---|---|
//! | `passes` | whole forward passes of BGE-M3's shape, texts x tokens | `trivec bench` |
//! | `passes_beside_peers` | the passes that are also timed with other engines | `tools/peers` |
//! | `layer` | passes of one layer of that shape | `quantised` |
//! | `starter_tokens` | passes of the starter, one text | `quantised` |
//! | `f32_products`, `products` | rows x outputs x depth; a block of outputs, of the size that one task multiplies | `kernels`, `quantised` |
//! | `whole_products` | rows x outputs x depth of whole layers | `benches/foreign` |
//! | `attention_tokens`, `integer_attention_tokens` | numbers of keys, for one head and one block of queries | `kernels`, `quantised` |

use serde_json::Value;

/// A list of workloads.
fn list(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("workloads.json")).expect("workloads.json is JSON");
    all[name].as_array().unwrap_or_else(|| panic!("workloads.json has no list `{name}`")).clone()
}

/// A list of sizes as `8x128` or `8x128x1024`.
pub fn sizes<const N: usize>(name: &str) -> Vec<[usize; N]> {
    let size = |value: &Value| {
        let numbers = value.as_str().expect("a text").split('x').map(|n| n.parse().expect("a number"));
        numbers.collect::<Vec<usize>>().try_into().unwrap_or_else(|_| panic!("{value} does not have {N} numbers"))
    };
    list(name).iter().map(size).collect()
}

/// A list of numbers.
#[allow(dead_code)] // not every bench has one
pub fn numbers(name: &str) -> Vec<usize> {
    list(name).iter().map(|value| value.as_u64().expect("a number") as usize).collect()
}

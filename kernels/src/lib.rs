//! The compute kernels of trivec: functions over memory that the caller owns. They do no I/O and start no threads. They allocate only to grow
//! buffers: those of integer attention, which the caller owns ([`IntScratch`], [`IntKeyValues`]), and two that each thread keeps, a panel to
//! unpack int4 weights into (`gemm/int4.rs`) and, on AVX2, the rows that the int8 product splits (`gemm/int8_split.rs`).
//!
//! Read in this order: `layout` (how numbers lie in memory), [`isa`](crate::Isa) (the instruction sets, and the tokens that prove that a CPU
//! has one), `simd` (the vector of sixteen `f32` over which all kernels are written), `gemm` (matrix products), `rows8` (activations rounded to
//! int8), `elementwise` (layer norm, GELU), `attention` and `attention_int`, and [`Kernels`] (the table of functions that a caller picks once).
//!
//! # Numeric contract
//!
//! Every kernel is one algorithm over sixteen lanes with fused multiply-add, written once and compiled for each instruction set. An element's
//! value depends only on its own inputs: not on its tile, its neighbours or the thread that computed it. It has the same bits on every
//! instruction set, except in bf16 products: instruction sets with bf16 instructions round as those do. The tests check all of this.

mod attention;
mod attention_int;
mod buffer;
mod cpu;
mod dispatch;
mod dot;
mod elementwise;
mod gemm;
mod isa;
mod layout;
mod operations;
mod probe;
mod rows8;
mod simd;
mod view;

pub use attention::{AttentionShape, KEY_TILE, QUERY_BLOCK};
pub use attention_int::{IntKeyValues, IntScratch};
pub use buffer::Buffer;
pub use cpu::Streams;
pub use dispatch::{Kernels, UnknownIsa};
pub use gemm::f32::DEPTH_BLOCK;
pub use gemm::{Epilogue, Panels};
pub use isa::Isa;
pub use layout::{I4_BLOCK, I4_GROUP, I4_GROUP_BYTES, LANES, MAX_INT_DEPTH, PANEL, Q4_0_BLOCK_BYTES};
pub use probe::Probe;
pub use rows8::{MAX_ROTATION, Prepare, Rows8, Rows8Kind, rotation_for, row8_stride};
pub use view::{Block, MatMut, MatRef};

//! The list of operations that every instruction set has. Other files generate tables and functions from it.

/// Calls `$callback` with `$args` and all operations: name, arguments, result, and the function that computes it. A `generic` function takes an
/// ISA's token before these arguments, and is compiled for each ISA that needs its own code. A `portable` one is the same for all ISAs.
macro_rules! for_each_operation {
    ($callback:ident $(, $args:tt)*) => {
        $callback! {
            $($args)*
            generic linear(
                x: MatRef<'_>, weight: MatRef<'_>, bias: Option<&[f32]>, out: MatMut<'_>
            ) => gemm::f32::linear;
            generic dot(a: &[f32], b: &[f32]) -> f32 => dot::dot;
            generic gelu(values: &mut [f32]) => elementwise::gelu;
            generic layer_norm(row: &mut [f32], gain: &[f32], bias: &[f32], epsilon: f32) => elementwise::layer_norm;
            portable pack_keys(keys: MatRef<'_>, packed: &mut [f32]) => attention::pack_keys;
            generic attend(
                shape: AttentionShape, queries: MatRef<'_>, keys: &[f32], values: MatRef<'_>, scratch: &mut [f32],
                out: MatMut<'_>
            ) => attention::attend;
            generic add_layer_norm(
                row: &mut [f32], branch: &[f32], gain: &[f32], bias: &[f32], epsilon: f32
            ) => elementwise::add_layer_norm;
            generic gelu_fast(values: &mut [f32]) => elementwise::gelu_fast;
            generic quantize_row(
                kind: Rows8Kind, prepare: Prepare<'_>, row: &[f32], scratch: &mut [f32], out: &mut [i8],
                scales: &mut [f32], offsets: &mut [i32]
            ) => rows8::quantize_row;
            generic prepare_row(prepare: Prepare<'_>, row: &[f32], out: &mut [f32]) => rows8::prepare_row;
            generic round_bf16(row: &[f32], out: &mut [u16]) => rows8::round_bf16;
            generic linear_i8(
                x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>
            ) => gemm::int8::linear;
            generic linear_i4(
                x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>
            ) => gemm::int4::linear;
            generic linear_q4_0(
                x: Rows8<'_>, weight: Panels<'_, u8>, epilogue: Epilogue<'_>, out: MatMut<'_>
            ) => gemm::q4_0::linear;
            generic linear_f16(
                x: MatRef<'_>, weight: Panels<'_, u16>, epilogue: Epilogue<'_>, out: MatMut<'_>
            ) => gemm::half::linear_f16;
            generic linear_bf16(
                x: &[u16], depth: usize, weight: Panels<'_, u16>, epilogue: Epilogue<'_>, out: MatMut<'_>
            ) => gemm::half::linear_bf16;
            generic pack_int(
                keys: MatRef<'_>, values: MatRef<'_>, scratch: &mut IntScratch, packed: &mut IntKeyValues
            ) => attention_int::pack;
            generic attend_int(
                scale: f32, queries: MatRef<'_>, packed: &IntKeyValues, scratch: &mut IntScratch, out: MatMut<'_>
            ) => attention_int::attend;
            generic probe(which: probe::Probe, rounds: usize) -> f64 => probe::run;
            generic read_memory(bytes: &[u8], streams: Streams) -> u64 => probe::read_memory;
        }
    };
}
pub(crate) use for_each_operation;

// embed MODEL TEXT...: prints the dense, lexical and ColBERT scores of the first text with every text.
//
// c.zig has C's declarations in Zig. It is made by: zig translate-c -lc -I include c.h, where c.h includes stdio.h, string.h and trivec.h.
const std = @import("std");
const c = @import("c.zig");

fn check(status: c.trivec_status, failure: *const ?*c.trivec_error) void {
    if (status != c.TRIVEC_OK) {
        _ = c.printf("%s\n", c.trivec_error_message(failure.*));
        std.c.exit(1);
    }
}

pub export fn main(argc: c_int, argv: [*][*:0]const u8) c_int {
    if (argc < 3) return 2;
    const count: usize = @intCast(argc - 2);
    var model: ?*c.trivec_model = null;
    var failure: ?*c.trivec_error = null;
    check(c.trivec_model_load(argv[1], null, &model, &failure), &failure);
    defer c.trivec_model_free(model);

    var texts: [64]c.trivec_text = undefined;
    if (count > texts.len) return 2;
    for (0..count) |at| texts[at] = .{ .data = argv[at + 2], .size = c.strlen(argv[at + 2]) };
    var options: c.trivec_encode_options = undefined;
    c.trivec_encode_options_init(&options);
    options.modes = c.TRIVEC_DENSE | c.TRIVEC_SPARSE | c.TRIVEC_COLBERT;
    var result: ?*c.trivec_result = null;
    check(c.trivec_encode(model, &texts, count, &options, &result, &failure), &failure);
    defer c.trivec_result_free(result);

    for (0..count) |at| {
        var dim: usize = 0;
        var width: usize = 0;
        var rows = [2]usize{ 0, 0 };
        var ids: [2][*c]const u32 = undefined;
        var weights: [2][*c]const f32 = undefined;
        const a = c.trivec_result_dense(result, 0, &dim);
        const b = c.trivec_result_dense(result, at, &dim);
        const q = c.trivec_result_colbert(result, 0, &rows[0], &width);
        const p = c.trivec_result_colbert(result, at, &rows[1], &width);
        const n = c.trivec_result_sparse(result, 0, &ids[0], &weights[0]);
        const m = c.trivec_result_sparse(result, at, &ids[1], &weights[1]);
        const lexical = c.trivec_lexical_score(ids[0], weights[0], n, ids[1], weights[1], m);
        const colbert = c.trivec_colbert_score(q, rows[0], p, rows[1], width);
        _ = c.printf("%.4f %.4f %.4f %s\n", @as(f64, c.trivec_dense_score(a, b, dim)), @as(f64, lexical), @as(f64, colbert), argv[at + 2]);
    }
    return 0;
}

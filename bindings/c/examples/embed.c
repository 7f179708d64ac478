// embed MODEL TEXT...: prints the dense, lexical and ColBERT scores of the first text with every text.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trivec.h"

// Gets the address of the error, not the error: arguments may be evaluated in any order, so the call may not have set it yet.
static void check(trivec_status status, trivec_error **place) {
    trivec_error *error = *place;
    if (status != TRIVEC_OK) {
        fprintf(stderr, "%s\n", trivec_error_message(error));
        trivec_error_free(error);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL TEXT...\n", argv[0]);
        return 2;
    }
    trivec_error *error = NULL;
    trivec_model *model = NULL;
    check(trivec_model_load(argv[1], NULL, &model, &error), &error);

    size_t count = (size_t)argc - 2;
    trivec_text *texts = malloc(count * sizeof *texts);
    if (texts == NULL) return 1;
    for (size_t at = 0; at < count; at++) texts[at] = (trivec_text){argv[at + 2], strlen(argv[at + 2])};

    trivec_encode_options options;
    trivec_encode_options_init(&options);
    options.modes = TRIVEC_DENSE | TRIVEC_SPARSE | TRIVEC_COLBERT;
    trivec_result *result = NULL;
    check(trivec_encode(model, texts, count, &options, &result, &error), &error);
    // The result may outlive its model.
    trivec_model_free(model);

    for (size_t at = 0; at < count; at++) {
        size_t dim, rows[2], width;
        const uint32_t *ids[2];
        const float *weights[2];
        const float *dense[2] = {trivec_result_dense(result, 0, &dim), trivec_result_dense(result, at, &dim)};
        const float *colbert[2] = {trivec_result_colbert(result, 0, &rows[0], &width),
                                   trivec_result_colbert(result, at, &rows[1], &width)};
        size_t n[2] = {trivec_result_sparse(result, 0, &ids[0], &weights[0]),
                       trivec_result_sparse(result, at, &ids[1], &weights[1])};
        printf("%.4f %.4f %.4f %s\n", (double)trivec_dense_score(dense[0], dense[1], dim),
               (double)trivec_lexical_score(ids[0], weights[0], n[0], ids[1], weights[1], n[1]),
               (double)trivec_colbert_score(colbert[0], rows[0], colbert[1], rows[1], width), argv[at + 2]);
    }
    trivec_result_free(result);
    free(texts);
    return 0;
}

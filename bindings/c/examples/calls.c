// calls MODEL THREADS TEXTS: measures how long calls from C take (for tools/bindings_cost/).
//
// For each line "COUNT RUNS" of standard input it makes RUNS calls, each of which embeds the first COUNT lines of the file TEXTS, and prints
// how many microseconds each took.
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "trivec.h"

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void check(trivec_status status, trivec_error **place) {
    if (status != TRIVEC_OK) {
        fprintf(stderr, "%s\n", trivec_error_message(*place));
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL THREADS TEXTS\n", argv[0]);
        return 2;
    }
    trivec_error *error = NULL;
    trivec_model *model = NULL;
    trivec_load_options options;
    trivec_load_options_init(&options);
    options.threads = strtoul(argv[2], NULL, 10);
    check(trivec_model_load(argv[1], &options, &model, &error), &error);
    trivec_info info = {.struct_size = sizeof info};
    check(trivec_model_info(model, &info, &error), &error);

    enum { MOST = 4096 };
    trivec_text *texts = calloc(MOST, sizeof *texts);
    FILE *file = fopen(argv[3], "r");
    if (texts == NULL || file == NULL) return 1;
    size_t known = 0, room = 0;
    char *line = NULL;
    ssize_t length;
    while (known < MOST && (length = getline(&line, &room, file)) > 0) {
        if (line[length - 1] == '\n') length--;
        texts[known++] = (trivec_text){line, (size_t)length};
        line = NULL;
        room = 0;
    }
    free(line);
    fclose(file);

    float *out = malloc(MOST * info.dense_dim * sizeof *out);
    if (out == NULL) return 1;
    size_t count, runs;
    while (scanf("%zu %zu", &count, &runs) == 2) {
        if (count > known) {
            fprintf(stderr, "there are fewer texts\n");
            return 1;
        }
        for (size_t run = 0; run < runs; run++) {
            double begin = now();
            trivec_status status = trivec_encode_dense(model, texts, count, NULL, out, count * info.dense_dim, &error);
            printf("%.3f ", now() - begin);
            check(status, &error);
        }
        printf("\n");
        fflush(stdout);
    }
    for (size_t at = 0; at < known; at++) free((void *)texts[at].data);
    free(out);
    free(texts);
    trivec_model_free(model);
    return 0;
}

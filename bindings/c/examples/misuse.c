// misuse MODEL: makes the mistakes that a program can make, and prints for each the message of its error. Ends with 0 if each was refused as
// it should be.
#include <stdio.h>
#include <string.h>

#include "trivec.h"

static int failures;

// Prints and checks the error of a call. It gets the address of the error, not the error: arguments may be evaluated in any order, so the
// call may not have set it yet.
static void refused(const char *what, trivec_status expected, trivec_status status, trivec_error **place) {
    trivec_error *error = *place;
    printf("%s: %s\n", what, trivec_error_message(error));
    if (status != expected || (error != NULL && trivec_error_status(error) != status)) {
        printf("  the status is %d, not %d\n", (int)status, (int)expected);
        failures++;
    }
    trivec_error_free(error);
}

static int stop(void *user, size_t done, size_t total) {
    (void)total;
    *(size_t *)user = done;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    trivec_error *error = NULL;
    trivec_model *model = NULL;
    trivec_result *result = NULL;
    refused("no such file", TRIVEC_MODEL, trivec_model_load("/nowhere", NULL, &model, &error), &error);
    refused("no path", TRIVEC_NULL_ARGUMENT, trivec_model_load(NULL, NULL, &model, &error), &error);
    refused("no model in memory", TRIVEC_MODEL, trivec_model_from_memory((const uint8_t *)"abc", 3, NULL, &model, &error),
            &error);
    if (trivec_model_load(argv[1], NULL, &model, NULL) != TRIVEC_OK) return 1;

    trivec_text texts[2] = {{"good", 4}, {"b\xff", 2}};
    refused("not UTF-8", TRIVEC_INPUT, trivec_encode(model, texts, 2, NULL, &result, &error), &error);
    texts[1] = (trivec_text){NULL, 5};
    refused("a text of NULL", TRIVEC_INPUT, trivec_encode(model, texts, 2, NULL, &result, &error), &error);
    refused("no texts", TRIVEC_NULL_ARGUMENT, trivec_encode(model, NULL, 2, NULL, &result, &error), &error);
    refused("no model", TRIVEC_NULL_ARGUMENT, trivec_encode(NULL, texts, 1, NULL, &result, &error), &error);
    refused("too many texts", TRIVEC_USAGE, trivec_encode(model, texts, (size_t)-1, NULL, &result, &error), &error);

    trivec_encode_options options;
    trivec_encode_options_init(&options);
    options.struct_size = 4;
    refused("a structure of no version", TRIVEC_STRUCT_SIZE, trivec_encode(model, texts, 1, &options, &result, &error), &error);
    struct {
        trivec_encode_options options;
        uint64_t later[4];
    } later;
    memset(&later, 0, sizeof later);
    trivec_encode_options_init(&later.options);
    later.options.struct_size = sizeof later;
    if (trivec_encode(model, texts, 1, &later.options, &result, NULL) != TRIVEC_OK) failures++;
    trivec_result_free(result);
    later.later[2] = 1;
    refused("values of a later version", TRIVEC_STRUCT_SIZE, trivec_encode(model, texts, 1, &later.options, &result, &error),
            &error);
    trivec_encode_options_init(&options);
    options.modes = 64;
    refused("an unknown mode", TRIVEC_USAGE, trivec_encode(model, texts, 1, &options, &result, &error), &error);

    float floats[3];
    refused("a short buffer", TRIVEC_USAGE, trivec_encode_dense(model, texts, 1, NULL, floats, 3, &error), &error);
    uint32_t ids[2];
    size_t needed = 0;
    refused("a short buffer for ids", TRIVEC_USAGE, trivec_tokenize(model, texts[0], NULL, ids, 2, &needed, NULL, &error), &error);
    refused("an embedder that is to rerank", TRIVEC_UNAVAILABLE,
            trivec_rerank(model, texts[0], texts, 1, NULL, floats, NULL, &error), &error);

    size_t done = 0;
    trivec_encode_options_init(&options);
    options.progress = stop;
    options.progress_user = &done;
    trivec_text many[600];
    for (size_t at = 0; at < 600; at++) many[at] = (trivec_text){"a text of some words", 20};
    refused("a call that is ended", TRIVEC_CANCELLED, trivec_encode(model, many, 600, &options, &result, &error), &error);
    if (done == 0 || done == 600) failures++;

    // After all these mistakes the model is still usable.
    if (trivec_encode(model, texts, 1, NULL, &result, NULL) != TRIVEC_OK || trivec_result_len(result) != 1) failures++;
    trivec_result_free(result);
    trivec_model_free(model);
    printf("%d failures\n", failures);
    return failures != 0;
}

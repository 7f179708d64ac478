// trivec: a CPU engine for BGE-M3 and other XLM-RoBERTa embedders and rerankers.
//
// Made by cbindgen of bindings/c/src: do not change it here.
//
// Ownership: what a function hands out through `out` belongs to the caller, who frees it once with the function of its type; every free takes
// NULL. Pointers that a function returns belong to the object they are of. Results outlive the model that gave them.
// Errors: a call that can fail returns a status. If `error` is not NULL, it is set to an error object, which the caller frees, or to NULL.
// `out` is NULL after a failure.
// Pointers: a pointer that is not said to be NULL now and then must not be; where it is, the call says TRIVEC_NULL_ARGUMENT and does nothing.
// Every other pointer must be to what its type and the sizes beside it say, for as long as the call lasts. Objects that were freed must not be
// used.
// Texts: UTF-8 with a length. Everything else that is text ends with a NUL.
// Threads: a model, a result and a cancel handle may be used by any number of threads at a time. The calls of a model share its threads: a call
// that comes while another computes has its own thread alone. A callback may call anything but what frees the objects of its call.
// Forks: a process that has forked may go on using its models, in both processes; threads are started anew in the child.
// Signals: a signal handler may call trivec_cancel_set and nothing else.
// Memory: where the system gives none, the process ends.


#ifndef TRIVEC_H
#define TRIVEC_H

#include <stddef.h>
#include <stdint.h>

// The version of this interface. Functions, values and ends of structures may be added within a version; nothing else changes.
#define TRIVEC_ABI_VERSION 1

// The dense vector of a text.
#define TRIVEC_DENSE 1

// The lexical weights of a text's tokens.
#define TRIVEC_SPARSE 2

// A vector for every token of a text.
#define TRIVEC_COLBERT 4

// What became of a call. Later versions may return values that are not listed here: treat them as errors.
enum trivec_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The call did what it was asked.
    TRIVEC_OK = 0,
    // An option makes no sense, or a buffer is too small.
    TRIVEC_USAGE = 1,
    // A text cannot be processed; trivec_error_index says which.
    TRIVEC_INPUT = 2,
    // A model file is damaged or of a kind that is not run here, or its results are not finite numbers.
    TRIVEC_MODEL = 3,
    // The model has no head for what was asked, or the library was built without it.
    TRIVEC_UNAVAILABLE = 4,
    // The system refused to read or map a file, or to start a thread.
    TRIVEC_IO = 5,
    // The call was ended by its cancel handle or by a callback.
    TRIVEC_CANCELLED = 6,
    // A pointer that must not be NULL is NULL.
    TRIVEC_NULL_ARGUMENT = 7,
    // The struct_size of a structure is one that no version of the header has, or it has values that this library does not know.
    TRIVEC_STRUCT_SIZE = 8,
    // A mistake inside the library. Models stay usable.
    TRIVEC_PANIC = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum trivec_status trivec_status;
#else
typedef int32_t trivec_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A text about a model.
enum trivec_string
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Where it came from: its path, or "starter".
    TRIVEC_STRING_NAME = 0,
    // The types of its weights.
    TRIVEC_STRING_WEIGHTS = 1,
    // The instruction set that it uses.
    TRIVEC_STRING_ISA = 2,
    // How its dense vector is pooled.
    TRIVEC_STRING_POOLING = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum trivec_string trivec_string;
#else
typedef int32_t trivec_string;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Ends calls that were given it, from any thread.
typedef struct trivec_cancel trivec_cancel;

// An error of a call: what it was, in words.
typedef struct trivec_error trivec_error;

// A loaded model. It never changes, and any number of threads may use it at a time.
typedef struct trivec_model trivec_model;

// What was computed of some texts. It never changes, and any number of threads may read it. Pointers into it are valid until it is freed.
typedef struct trivec_result trivec_result;

// A function that the library calls with messages: `level` is 0 for an error, 1 for information; `message` is UTF-8 that ends with a NUL, and is
// valid during the call. Any thread may call it, several at a time. It must return: no exception, no longjmp.
typedef void (*trivec_log)(void *user, int32_t level, const char *message);

// How to load a model.
typedef struct {
    // The size of this structure: set by trivec_load_options_init.
    size_t struct_size;
    // Worker threads, 1 to 1024; 0: as many as CPUs this process may use.
    size_t threads;
    // The instruction set by name, one of trivec_instruction_sets; NULL: the best this CPU has.
    const char *isa;
    // Whether to look for NaN and infinities among all weights and to refuse the model if there is one. 1 by default.
    int32_t check_finite;
    // Whether to bring a packed file into memory while it is loaded, instead of as it is used. 0 by default.
    int32_t preload;
} trivec_load_options;

// What a model is. Set struct_size to the size of this structure before it is asked for.
typedef struct {
    // The size of this structure as the caller knows it.
    size_t struct_size;
    // Encoder layers.
    size_t layers;
    // Width of the token states.
    size_t hidden;
    // Attention heads.
    size_t heads;
    // Width of the feed-forward layers.
    size_t ffn;
    // Rows of the token table.
    size_t vocabulary;
    // Longest input in tokens.
    size_t max_length;
    // Length of the dense vectors; 0 for a reranker.
    size_t dense_dim;
    // Length of the ColBERT vectors; 0 if the model has none.
    size_t colbert_dim;
    // Worker threads, the caller's included.
    size_t threads;
    // What the model can give: TRIVEC_DENSE, TRIVEC_SPARSE, TRIVEC_COLBERT, added up.
    uint32_t modes;
    // Whether it is a reranker, which scores pairs and embeds nothing.
    int32_t is_reranker;
    // Whether dense vectors have the length 1.
    int32_t dense_normalized;
    // Nothing: 0.
    uint32_t reserved;
} trivec_info;

// A text: `size` bytes of UTF-8 at `data`. It needs no NUL at its end and may have some inside. `data` may be NULL if `size` is 0.
typedef struct {
    // The first byte.
    const char *data;
    // How many bytes.
    size_t size;
} trivec_text;

// A function that the library calls, on the thread of the call, with the number of texts that are done and the number of all. If it returns
// anything but 0, the call ends with TRIVEC_CANCELLED, also if that was the last text. It must return: no exception, no longjmp.
typedef int32_t (*trivec_progress)(void *user, size_t done, size_t total);

// What to compute of each text.
typedef struct {
    // The size of this structure: set by trivec_encode_options_init.
    size_t struct_size;
    // TRIVEC_DENSE, TRIVEC_SPARSE, TRIVEC_COLBERT, added up. TRIVEC_DENSE by default.
    uint32_t modes;
    // Whether dense vectors are given the length 1: 1 yes, 0 no, -1 as the model's files say (the default).
    int32_t normalize;
    // Tokens kept of each text, 2 to the model's; 0: the model's.
    size_t max_length;
    // Leading values of the dense vector to keep; 0: all.
    size_t dimensions;
    // Leading values of the ColBERT vectors to keep; 0: all.
    size_t colbert_dimensions;
    // Whether ColBERT vectors stay as long as they are, instead of being given the length 1. 0 by default.
    int32_t colbert_raw;
    // Whether special tokens that are written out in a text ("<s>") are read as text. 0 by default.
    int32_t literal_specials;
    // What is put before each text. Without data: the model's default prompt. With data and the size 0: nothing.
    trivec_text prompt;
    // Ends the call early; may be NULL.
    const trivec_cancel *cancel;
    // The library calls it to tell how far the call is; may be NULL. If it ends the call, `cancel` is set too, where there is one.
    trivec_progress progress;
    // What `progress` is given.
    void *progress_user;
} trivec_encode_options;

// A function that the library calls with the result of one text: `one` has the length 1 and is valid during the call. If the function returns
// anything but 0, the call ends with TRIVEC_CANCELLED, also if that was the last text. It must return: no exception, no longjmp.
typedef int32_t (*trivec_each)(void *user, size_t index, const trivec_result *one);

// How to rerank.
typedef struct {
    // The size of this structure: set by trivec_rerank_options_init.
    size_t struct_size;
    // Tokens kept of a query and a document together, 17 to the model's; 0: 512, or the model's where that is less.
    size_t max_length;
    // Tokens kept of the query at most; 0: three quarters of max_length.
    size_t max_query;
    // Tokens kept of a document at most; 0: what is left.
    size_t max_document;
    // Whether special tokens that are written out in a text are read as text. 0 by default.
    int32_t literal_specials;
    // Nothing: 0.
    uint32_t reserved;
    // What is put before the query. Without data: the model's default prompt. With data and the size 0: nothing.
    trivec_text prompt;
    // Ends the call early; may be NULL.
    const trivec_cancel *cancel;
    // The library calls it to tell how far the call is; may be NULL. If it ends the call, `cancel` is set too, where there is one.
    trivec_progress progress;
    // What `progress` is given.
    void *progress_user;
} trivec_rerank_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, as "0.1.0".
const char *trivec_version(void);

// The version of the interface that the library has: TRIVEC_ABI_VERSION of the header that it was built with.
uint32_t trivec_abi_version(void);

// The names of the instruction sets that this CPU runs, slowest first; NULL follows the last.
const char *const *trivec_instruction_sets(void);

// The status of an error. NULL has TRIVEC_OK.
trivec_status trivec_error_status(const trivec_error *error);

// What went wrong, in UTF-8 that ends with a NUL: it names the file, what was found and what was expected. Valid until the error is freed.
// NULL has an empty text.
const char *trivec_error_message(const trivec_error *error);

// Which of a call's texts the error is about; SIZE_MAX if it is about none.
size_t trivec_error_index(const trivec_error *error);

// Frees an error. NULL is allowed and does nothing.
void trivec_error_free(trivec_error *error);

// A handle that is not set.
trivec_cancel *trivec_cancel_new(void);

// Ends every call that was given this handle, and every later one, with TRIVEC_CANCELLED: within the time of one layer, and also if all is computed
// by then and the call has only to return. Any thread may call it, and a signal handler. NULL is allowed and does nothing.
void trivec_cancel_set(const trivec_cancel *cancel);

// Frees a handle. A call that is going on with it is not disturbed: it ends if the handle was set before, and otherwise can no longer be ended by
// it. NULL is allowed and does nothing.
void trivec_cancel_free(trivec_cancel *cancel);

// From now on tells `function` what happens: models that were loaded, and mistakes inside the library, which otherwise appear on stderr. NULL ends
// that. One function serves the whole process.
void trivec_set_log(trivec_log function,
                    void *user);

// Fills the options with their defaults.
void trivec_load_options_init(trivec_load_options *options);

// Loads a packed file, or a directory in Hugging Face layout. Files are mapped: they must stay in place and unchanged while the model lives.
// `options` may be NULL.
trivec_status trivec_model_load(const char *path,
                                const trivec_load_options *options,
                                trivec_model **out,
                                trivec_error **error);

// Loads the content of a packed file, of which the model keeps a copy. `options` may be NULL.
trivec_status trivec_model_from_memory(const uint8_t *bytes,
                                       size_t size,
                                       const trivec_load_options *options,
                                       trivec_model **out,
                                       trivec_error **error);

// Loads the small model inside the library, which is good for a first try and not BGE-M3. TRIVEC_UNAVAILABLE if the library was built without
// it. `options` may be NULL.
trivec_status trivec_model_starter(const trivec_load_options *options,
                                   trivec_model **out,
                                   trivec_error **error);

// Frees a model. No other thread may be using it; results that it gave stay. NULL is allowed and does nothing.
void trivec_model_free(trivec_model *model);

// Says what a model is: fills the first struct_size bytes of `info`. Bytes after the fields that this library knows become 0.
trivec_status trivec_model_info(const trivec_model *model,
                                trivec_info *info,
                                trivec_error **error);

// A text about a model (`which` is a trivec_string), in UTF-8 that ends with a NUL and lives as long as the model. NULL if there is no such text,
// or no model.
const char *trivec_model_string(const trivec_model *model,
                                int32_t which);

// How many texts. 0 of NULL.
size_t trivec_result_len(const trivec_result *result);

// The dense vector of a text, and its length in `dim`. NULL and 0 if it was not asked for, or there is no such text. `dim` may be NULL.
const float *trivec_result_dense(const trivec_result *result,
                                 size_t index,
                                 size_t *dim);

// How many tokens of a text have a lexical weight: their ids, ascending, at `ids` and their weights at `weights`. 0 and NULL if they were not
// asked for, or there is no such text; an empty text has 0. `ids` and `weights` may be NULL.
size_t trivec_result_sparse(const trivec_result *result,
                            size_t index,
                            const uint32_t **ids,
                            const float **weights);

// The ColBERT vectors of a text, [rows, dim], one row after another: row i belongs to its token i + 1. NULL and 0 if they were not asked for, or
// there is no such text. `rows` and `dim` may be NULL.
const float *trivec_result_colbert(const trivec_result *result,
                                   size_t index,
                                   size_t *rows,
                                   size_t *dim);

// How many tokens of a text went through the model, the special ones included. 0 if there is no such text.
size_t trivec_result_tokens(const trivec_result *result, size_t index);

// Whether a text was longer and was cut: 1, or 0.
int32_t trivec_result_truncated(const trivec_result *result, size_t index);

// Frees a result. NULL is allowed and does nothing.
void trivec_result_free(trivec_result *result);

// Fills the options with their defaults.
void trivec_encode_options_init(trivec_encode_options *options);

// Embeds `count` texts: one entry a text in the result, in their order, with the same bits whatever its neighbours and however many threads.
// `options` may be NULL.
trivec_status trivec_encode(const trivec_model *model,
                            const trivec_text *texts,
                            size_t count,
                            const trivec_encode_options *options,
                            trivec_result **out,
                            trivec_error **error);

// Embeds `count` sequences of token ids, the sequence i of lengths[i] ids at ids[i], each complete with its special tokens and its prompt.
trivec_status trivec_encode_ids(const trivec_model *model,
                                const uint32_t *const *ids,
                                const size_t *lengths,
                                size_t count,
                                const trivec_encode_options *options,
                                trivec_result **out,
                                trivec_error **error);

// Writes the dense vectors of `count` texts into `out`, one after another: [count, dense_dim], or [count, options.dimensions]. TRIVEC_USAGE
// if it has room for fewer floats. Only TRIVEC_DENSE may be asked for. If the call fails, `out` is as it was.
trivec_status trivec_encode_dense(const trivec_model *model,
                                  const trivec_text *texts,
                                  size_t count,
                                  const trivec_encode_options *options,
                                  float *out,
                                  size_t out_floats,
                                  trivec_error **error);

// Embeds `count` texts, 256 at a time, and hands each one's result over: in their order, on the thread of the call. After each 256 texts their
// results are handed over before the next ones are computed, so that no more than 256 results are held at a time. Indices in errors, and progress, are those of the whole call.
trivec_status trivec_encode_each(const trivec_model *model,
                                 const trivec_text *texts,
                                 size_t count,
                                 const trivec_encode_options *options,
                                 trivec_each each,
                                 void *user,
                                 trivec_error **error);

// Fills the options with their defaults.
void trivec_rerank_options_init(trivec_rerank_options *options);

// How well each of `count` documents answers the query: their logits at `logits`, and at `scores`, which may be NULL, the model's scores: the
// logits' sigmoids, 0 to 1, or the logits themselves where the model's files say Identity, in the order of the documents. Both have room for
// `count` floats. `options` may be NULL. An error's index is a document's.
trivec_status trivec_rerank(const trivec_model *model,
                            trivec_text query,
                            const trivec_text *documents,
                            size_t count,
                            const trivec_rerank_options *options,
                            float *logits,
                            float *scores,
                            trivec_error **error);

// The token ids of a text, special ones included, cut as trivec_encode cuts them: `capacity` of them at the most go to `out`, and their number
// to `needed`. TRIVEC_USAGE if there are more than `capacity`, unless `out` is NULL and `capacity` 0. `truncated`, which may be NULL, says whether
// the text was cut to the maximum length. `options` may be NULL.
trivec_status trivec_tokenize(const trivec_model *model,
                              trivec_text of,
                              const trivec_encode_options *options,
                              uint32_t *out,
                              size_t capacity,
                              size_t *needed,
                              int32_t *truncated,
                              trivec_error **error);

// The piece of the vocabulary of a token, `size` bytes of UTF-8 that live as long as the model and do not end with a NUL. NULL if the id has
// none, or the model no tokenizer.
const char *trivec_piece(const trivec_model *model,
                         uint32_t id,
                         size_t *size);

// How many tokens each of `count` texts has, special ones included, once it was cut to the model's maximum length: at `out`, which has room for
// `count` numbers.
trivec_status trivec_count_tokens(const trivec_model *model,
                                  const trivec_text *of,
                                  size_t count,
                                  size_t *out,
                                  trivec_error **error);

// The dot product of two dense vectors of `dim` values: their cosine, if both have the length 1.
float trivec_dense_score(const float *a, const float *b, size_t dim);

// The sum, over the ids that both texts have, of the products of their weights.
float trivec_lexical_score(const uint32_t *ids_a,
                           const float *weights_a,
                           size_t count_a,
                           const uint32_t *ids_b,
                           const float *weights_b,
                           size_t count_b);

// For every row of the query its largest dot product with a row of the document; the mean of those. Rows have `dim` values, one after another.
float trivec_colbert_score(const float *query,
                           size_t query_rows,
                           const float *document,
                           size_t document_rows,
                           size_t dim);

// The weighted mean of the three scores; `weights` are three, of dense, sparse and ColBERT. NaN if they add up to 0.
float trivec_combined_score(float dense,
                            float sparse,
                            float colbert,
                            const float *weights);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* TRIVEC_H */

// trivec for C++17 and later: owners of the handles of trivec.h, and exceptions for its errors. Header only.
//
//   trivec::Model model = trivec::Model::load("bge-m3-int8.safetensors");
//   trivec::Result result = model.encode({"a text", "another"});
//   trivec::Span<float> vector = result.dense(0);

#ifndef TRIVEC_HPP
#define TRIVEC_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trivec.h"

namespace trivec {

// What a call of the C interface said.
class Error : public std::runtime_error {
public:
    Error(trivec_status status, const char *message, std::size_t index)
        : std::runtime_error(message), status_(status), index_(index) {}
    trivec_status status() const noexcept { return status_; }
    // Which text of the call it is about; SIZE_MAX if it is about none.
    std::size_t index() const noexcept { return index_; }

private:
    trivec_status status_;
    std::size_t index_;
};

namespace detail {

// Frees the error and throws what it said, if there is one. By reference: it is set by the call that is the first argument.
inline void check(trivec_status status, trivec_error *const &error) {
    if (status == TRIVEC_OK) return;
    Error thrown(status, trivec_error_message(error), trivec_error_index(error));
    trivec_error_free(error);
    throw thrown;
}

// The one owner of a handle.
template <typename T, void (*Free)(T *)>
class Owned {
public:
    explicit Owned(T *handle = nullptr) noexcept : handle_(handle) {}
    Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned &operator=(Owned &&other) noexcept {
        if (this != &other) {
            Free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { Free(handle_); }
    T *get() const noexcept { return handle_; }

private:
    T *handle_;
};

inline trivec_text text(std::string_view text) noexcept { return {text.data(), text.size()}; }

inline std::vector<trivec_text> texts(const std::vector<std::string_view> &texts) {
    std::vector<trivec_text> views;
    views.reserve(texts.size());
    for (std::string_view one : texts) views.push_back(text(one));
    return views;
}

}  // namespace detail

// Values of a result, which owns them.
template <typename T>
class Span {
public:
    Span(const T *data, std::size_t size) noexcept : data_(data), size_(size) {}
    const T *begin() const noexcept { return data_; }
    const T *end() const noexcept { return data_ + size_; }
    const T *data() const noexcept { return data_; }
    std::size_t size() const noexcept { return size_; }
    const T &operator[](std::size_t index) const noexcept { return data_[index]; }

private:
    const T *data_;
    std::size_t size_;
};

// Ids, ascending, with their weights.
struct Sparse {
    Span<std::uint32_t> ids;
    Span<float> weights;
};

// [rows, dim], one row after another.
struct Rows {
    Span<float> values;
    std::size_t rows;
    std::size_t dim;
    Span<float> operator[](std::size_t row) const noexcept { return {values.data() + row * dim, dim}; }
};

// What was computed of some texts. It outlives its model; what its functions return does not outlive it.
class Result {
public:
    explicit Result(trivec_result *result) noexcept : result_(result) {}
    std::size_t size() const noexcept { return trivec_result_len(result_.get()); }
    Span<float> dense(std::size_t index) const noexcept {
        std::size_t dim = 0;
        const float *values = trivec_result_dense(result_.get(), index, &dim);
        return {values, dim};
    }
    Sparse sparse(std::size_t index) const noexcept {
        const std::uint32_t *ids = nullptr;
        const float *weights = nullptr;
        std::size_t count = trivec_result_sparse(result_.get(), index, &ids, &weights);
        return {{ids, count}, {weights, count}};
    }
    Rows colbert(std::size_t index) const noexcept {
        std::size_t rows = 0, dim = 0;
        const float *values = trivec_result_colbert(result_.get(), index, &rows, &dim);
        return {{values, rows * dim}, rows, dim};
    }
    std::size_t tokens(std::size_t index) const noexcept { return trivec_result_tokens(result_.get(), index); }
    bool truncated(std::size_t index) const noexcept { return trivec_result_truncated(result_.get(), index) != 0; }
    const trivec_result *get() const noexcept { return result_.get(); }

private:
    detail::Owned<trivec_result, trivec_result_free> result_;
};

// Ends calls from another thread.
class Cancel {
public:
    Cancel() : cancel_(trivec_cancel_new()) {}
    void set() const noexcept { trivec_cancel_set(cancel_.get()); }
    const trivec_cancel *get() const noexcept { return cancel_.get(); }

private:
    detail::Owned<trivec_cancel, trivec_cancel_free> cancel_;
};

struct LoadOptions : trivec_load_options {
    LoadOptions() noexcept { trivec_load_options_init(this); }
};

struct EncodeOptions : trivec_encode_options {
    EncodeOptions() noexcept { trivec_encode_options_init(this); }
};

struct RerankOptions : trivec_rerank_options {
    RerankOptions() noexcept { trivec_rerank_options_init(this); }
};

// A document's logit and its score: the logit's sigmoid, or the logit itself where the model's files say Identity.
struct Score {
    float logit;
    float score;
};

// A loaded model, which any number of threads may use.
class Model {
public:
    static Model load(const std::string &path, const LoadOptions &options = {}) {
        trivec_model *model = nullptr;
        trivec_error *error = nullptr;
        detail::check(trivec_model_load(path.c_str(), &options, &model, &error), error);
        return Model(model);
    }
    // The small model inside the library, if it was built with it.
    static Model starter(const LoadOptions &options = {}) {
        trivec_model *model = nullptr;
        trivec_error *error = nullptr;
        detail::check(trivec_model_starter(&options, &model, &error), error);
        return Model(model);
    }

    trivec_info info() const {
        trivec_info info{};
        info.struct_size = sizeof info;
        trivec_error *error = nullptr;
        detail::check(trivec_model_info(model_.get(), &info, &error), error);
        return info;
    }

    Result encode(const std::vector<std::string_view> &texts, const EncodeOptions &options = {}) const {
        trivec_result *result = nullptr;
        trivec_error *error = nullptr;
        auto views = detail::texts(texts);
        detail::check(trivec_encode(model_.get(), views.data(), views.size(), &options, &result, &error), error);
        return Result(result);
    }

    std::vector<Score> rerank(std::string_view query, const std::vector<std::string_view> &documents,
                              const RerankOptions &options = {}) const {
        std::vector<float> logits(documents.size()), scores(documents.size());
        trivec_error *error = nullptr;
        auto views = detail::texts(documents);
        detail::check(trivec_rerank(model_.get(), detail::text(query), views.data(), views.size(), &options,
                                    logits.data(), scores.data(), &error),
                      error);
        std::vector<Score> all;
        for (std::size_t at = 0; at < logits.size(); at++) all.push_back({logits[at], scores[at]});
        return all;
    }

    const trivec_model *get() const noexcept { return model_.get(); }

private:
    explicit Model(trivec_model *model) noexcept : model_(model) {}
    detail::Owned<trivec_model, trivec_model_free> model_;
};

}  // namespace trivec

#endif

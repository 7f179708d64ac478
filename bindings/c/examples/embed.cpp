// embed MODEL TEXT...: prints the dense score of the first text with every text, and shows that a text which is not UTF-8 is an exception.
#include <cstdio>
#include <string_view>
#include <vector>

#include "trivec.hpp"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    std::vector<std::string_view> texts(argv + 2, argv + argc);
    try {
        trivec::Model model = trivec::Model::load(argv[1]);
        trivec::EncodeOptions options;
        options.modes = TRIVEC_DENSE | TRIVEC_SPARSE;
        trivec::Result result = model.encode(texts, options);
        trivec::Result moved = std::move(result);
        for (std::size_t at = 0; at < moved.size(); at++) {
            trivec::Span<float> a = moved.dense(0), b = moved.dense(at);
            std::printf("%.4f %zu %s\n", static_cast<double>(trivec_dense_score(a.data(), b.data(), a.size())),
                        moved.sparse(at).ids.size(), argv[at + 2]);
        }
        model.encode({"good", "\xff"});
    } catch (const trivec::Error &error) {
        std::printf("%s (text %zu)\n", error.what(), error.index());
        return error.status() == TRIVEC_INPUT && error.index() == 1 ? 0 : 1;
    }
    return 1;
}

// Greedy decoding with llama.cpp, printed as JSON: the driver behind llama_cpp_smollm2.py, which compiles and runs it.
//
//   driver MODEL f16|f32 THREADS STEPS PROMPT_FILE...
//
// The whole prompt is one prefill batch, then one token per pass; the end-of-text token does not stop it.
// `f16` is llama.cpp as shipped (f16 KV cache, flash attention chosen by the library); `f32` keeps the cache in f32
// with flash attention off. Left out: sampling, batching, any check of the result.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "llama.h"

namespace {

constexpr int kTop = 5;

[[noreturn]] void fail(const std::string &why) {
    std::fprintf(stderr, "driver: %s\n", why.c_str());
    std::exit(1);
}

std::vector<llama_token> tokenize(const llama_vocab *vocab, const std::string &text) {
    const int32_t bytes = static_cast<int32_t>(text.size());
    std::vector<llama_token> ids(text.size() + 8);
    const int32_t n = llama_tokenize(vocab, text.data(), bytes, ids.data(), static_cast<int32_t>(ids.size()),
                                     /*add_special=*/true, /*parse_special=*/true);
    if (n <= 0) fail("the prompt does not tokenize");
    ids.resize(static_cast<size_t>(n));
    return ids;
}

void print_ids(const char *key, const std::vector<llama_token> &ids) {
    std::printf("\"%s\":[", key);
    for (size_t i = 0; i < ids.size(); ++i) std::printf("%s%d", i ? "," : "", ids[i]);
    std::printf("]");
}

// Equal logits are ordered by token id, so the list is a function of the logits alone.
std::vector<llama_token> top(const float *logits, int n_vocab) {
    std::vector<llama_token> order(static_cast<size_t>(n_vocab));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + kTop, order.end(), [&](llama_token a, llama_token b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    order.resize(kTop);
    return order;
}

double log_sum_exp(const float *logits, int n_vocab, float max) {
    double sum = 0;
    for (int i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - max);
    return max + std::log(sum);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc < 6) fail("usage: driver MODEL f16|f32 THREADS STEPS PROMPT_FILE...");
    const bool f32 = std::string(argv[2]) == "f32";
    const int threads = std::atoi(argv[3]);
    const int steps = std::atoi(argv[4]);
    llama_log_set([](ggml_log_level level, const char *text, void *) {
        if (level >= GGML_LOG_LEVEL_WARN) std::fputs(text, stderr);
    }, nullptr);
    llama_backend_init();

    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    llama_model *model = llama_model_load_from_file(argv[1], model_params);
    if (!model) fail(std::string("cannot load ") + argv[1]);
    const llama_vocab *vocab = llama_model_get_vocab(model);
    const int n_vocab = llama_vocab_n_tokens(vocab);

    std::printf("{\"system\":\"%s\",\"add_bos\":%s,\"runs\":[", llama_print_system_info(),
                llama_vocab_get_add_bos(vocab) ? "true" : "false");
    for (int arg = 5; arg < argc; ++arg) {
        std::ifstream file(argv[arg], std::ios::binary);
        const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
        std::vector<llama_token> prompt = tokenize(vocab, text);

        // A fresh context per prompt: no cache carries over.
        llama_context_params params = llama_context_default_params();
        params.n_ctx = 1024;
        params.n_threads = params.n_threads_batch = threads;
        if (f32) {
            params.type_k = params.type_v = GGML_TYPE_F32;
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        }
        llama_context *context = llama_init_from_model(model, params);
        if (!context) fail("cannot make a context");

        std::printf("%s{", arg > 5 ? "," : "");
        print_ids("prompt_ids", prompt);
        std::printf(",\"steps\":[");
        std::vector<llama_token> continuation;
        llama_batch batch = llama_batch_get_one(prompt.data(), static_cast<int32_t>(prompt.size()));
        llama_token next = 0;
        for (int step = 0; step < steps; ++step) {
            if (llama_decode(context, batch) != 0) fail("llama_decode failed");
            const float *logits = llama_get_logits_ith(context, -1);
            const std::vector<llama_token> best = top(logits, n_vocab);
            std::printf("%s{", step ? "," : "");
            print_ids("top_ids", best);
            std::printf(",\"top_logits\":[");
            for (int i = 0; i < kTop; ++i) std::printf("%s%.9g", i ? "," : "", static_cast<double>(logits[best[i]]));
            std::printf("],\"log_sum_exp\":%.9g}", log_sum_exp(logits, n_vocab, logits[best[0]]));
            next = best[0];
            continuation.push_back(next);
            batch = llama_batch_get_one(&next, 1);
        }
        std::printf("],");
        print_ids("continuation_ids", continuation);
        std::string out(static_cast<size_t>(steps) * 32, '\0');
        const int32_t n = llama_detokenize(vocab, continuation.data(), steps, out.data(),
                                           static_cast<int32_t>(out.size()), false, true);
        if (n < 0) fail("the continuation does not detokenize");
        std::printf(",\"continuation_hex\":\"");
        for (int32_t i = 0; i < n; ++i) std::printf("%02x", static_cast<unsigned char>(out[static_cast<size_t>(i)]));
        std::printf("\"}");
        llama_free(context);
    }
    std::printf("]}\n");
    llama_model_free(model);
    llama_backend_free();
}

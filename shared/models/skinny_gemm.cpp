// y (rows, out) = x (rows, in) · Wᵀ for the few rows of a verification pass.
//
// The weights are what such a product waits for. They lie in panels (in, PANEL): for each input the weights of PANEL
// outputs side by side, so that a panel is one stream that is read once for all rows. A row's sums depend on that row
// alone, bit for bit, however many others run along: every output adds its inputs in the same order.

#include <vector>

#include "lanes.h"

#define MOST_ROWS (WIDTH == 16 ? 8 : 6)
#define PANEL (2 * WIDTH)

// N rows through P panels at once: few rows need several panels to keep the adders busy.
template <int P, int N>
static inline void tile(const float* panels, const float* x, float* y, long in, long columns, long x_stride,
                        long y_stride, const float* scales, int add) {
    Floats sums[P][N][2] = {};
    for (long i = 0; i < in; i++)
        for (int p = 0; p < P; p++) {
            const float* weights = panels + (p * in + i) * PANEL;
            Floats left = load(weights), right = load(weights + WIDTH);
            for (int n = 0; n < N; n++) {
                float value = x[n * x_stride + i];
                sums[p][n][0] += left * value;
                sums[p][n][1] += right * value;
            }
        }
    for (int p = 0; p < P; p++)
        for (int n = 0; n < N; n++) {
            float found[PANEL];
            std::memcpy(found, sums[p][n], sizeof found);
            float* to = y + n * y_stride + p * PANEL;
            long here = columns - p * PANEL < PANEL ? columns - p * PANEL : PANEL;
            float scale = scales ? scales[n] : 1.0f;
            for (long c = 0; c < here; c++) to[c] = add ? to[c] + found[c] : found[c] * scale;
        }
}

template <int P>
static void panels_of(const float* w, const float* x, float* y, long rows, long in, long columns, long x_stride,
                      long y_stride, const float* scales, int add) {
    for (long first = 0; first < rows; first += MOST_ROWS) {
        const float* from = x + first * x_stride;
        float* to = y + first * y_stride;
        const float* own = scales ? scales + first : nullptr;
        switch (rows - first < MOST_ROWS ? rows - first : MOST_ROWS) {
            case 1: tile<P, 1>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 2: tile<P, 2>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 3: tile<P, 3>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 4: tile<P, 4>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 5: tile<P, 5>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 6: tile<P, 6>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
#if WIDTH == 16
            case 7: tile<P, 7>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
            case 8: tile<P, 8>(w, from, to, in, columns, x_stride, y_stride, own, add); break;
#endif
        }
    }
}

extern "C" long panel_width() { return PANEL; }

// 1 / rms of each row: √(mean x² + eps).
static std::vector<float> inverse_rms(const float* x, long rows, long in, long x_stride, float eps) {
    std::vector<float> scales(rows);
    for (long row = 0; row < rows; row++) {
        const float* from = x + row * x_stride;
        Floats squares = {};
        long i = 0;
        for (; i + WIDTH <= in; i += WIDTH) squares += load(from + i) * load(from + i);
        float total = sum_of(squares);
        for (; i < in; i++) total += from[i] * from[i];
        scales[row] = 1.0f / __builtin_sqrtf(total / in + eps);
    }
    return scales;
}

// eps ≥ 0: rows of x are divided by their rms first (the products by it afterwards). eps < 0: they are taken as they are.
extern "C" void skinny_product(const float* w, const float* x, float* y, long rows, long in, long out, long x_stride,
                               long y_stride, int add, float eps, int threads) {
    std::vector<float> normed;
    if (eps >= 0) normed = inverse_rms(x, rows, in, x_stride, eps);
    const float* scales = eps >= 0 ? normed.data() : nullptr;
    long panels = (out + PANEL - 1) / PANEL, at_once = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
    long groups = (panels + at_once - 1) / at_once;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long group = 0; group < groups; group++) {
        long first = group * at_once, here = panels - first < at_once ? panels - first : at_once;
        const float* from = w + first * in * PANEL;
        float* to = y + first * PANEL;
        long columns = out - first * PANEL;
        if (here == 4)
            panels_of<4>(from, x, to, rows, in, columns, x_stride, y_stride, scales, add);
        else if (here == 2)
            panels_of<2>(from, x, to, rows, in, columns, x_stride, y_stride, scales, add);
        else
            for (long p = 0; p < here; p++)
                panels_of<1>(from + p * in * PANEL, x, to + p * PANEL, rows, in, columns - p * PANEL, x_stride,
                             y_stride, scales, add);
    }
}

// Causal attention of a few rows, q (rows, heads, width) at positions start, start + 1, …, over keys and values
// (kv_heads, positions, width) whose rows up to there are written. q comes scaled; width is a multiple of WIDTH.
static void attend_one(const float* q, const float* k, const float* v, float* out, long width, long length,
                       std::vector<float>& scores) {
    const Floats zero = {};
    long padded = (length + WIDTH - 1) / WIDTH * WIDTH;
    if ((long)scores.size() < padded) scores.resize(2 * padded);
    float most = -3e38f;
    for (long at = 0; at < length; at++) {
        Floats products = {};
        for (long i = 0; i < width; i += WIDTH) products += load(q + i) * load(k + at * width + i);
        scores[at] = sum_of(products);
        most = scores[at] > most ? scores[at] : most;
    }
    for (long at = length; at < padded; at++) scores[at] = -3e38f;
    Floats total = {};
    for (long at = 0; at < padded; at += WIDTH) {
        Floats below = load(&scores[at]) - most;
        Floats weight = below < -87.0f ? zero : exp_of(below < -87.0f ? zero : below);
        store(weight, &scores[at]);
        total += weight;
    }
    float share = 1.0f / sum_of(total);
    for (long i = 0; i < width; i += WIDTH) {
        Floats even = {}, odd = {};
        long at = 0;
        for (; at + 1 < length; at += 2) {
            even += scores[at] * load(v + at * width + i);
            odd += scores[at + 1] * load(v + (at + 1) * width + i);
        }
        if (at < length) even += scores[at] * load(v + at * width + i);
        store((even + odd) * share, out + i);
    }
}

extern "C" long lanes() { return WIDTH; }

extern "C" void attend(const float* q, const float* k, const float* v, float* out, long rows, long heads, long kv_heads,
                       long width, long positions, long start, long q_row, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        static thread_local std::vector<float> scores;
#pragma omp for schedule(static)
        for (long head = 0; head < heads; head++) {
            long own = head / (heads / kv_heads) * positions * width;
            for (long row = 0; row < rows; row++)
                attend_one(q + row * q_row + head * width, k + own, v + own, out + (row * heads + head) * width, width,
                           start + row + 1, scores);
        }
    }
}

// y (rows, out) = x (rows, in) · Wᵀ for the few rows of a verification pass.
//
// The weights are what such a product waits for. They lie in panels (in, PANEL): for each input the weights of PANEL
// outputs side by side, so that a panel is one stream that is read once for all rows. A row's sums depend on that row
// alone, bit for bit, however many others run along: every output adds its inputs in the same order.

#include <cstring>

#if defined(__AVX512F__)
#define WIDTH 16
#define MOST_ROWS 8
#elif defined(__AVX__)
#define WIDTH 8
#define MOST_ROWS 6
#else
#define WIDTH 4
#define MOST_ROWS 6
#endif
#define PANEL (2 * WIDTH)

typedef float Vector __attribute__((vector_size(WIDTH * 4)));

static inline Vector load(const float* from) {
    Vector loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

// N rows through P panels at once: few rows need several panels to keep the adders busy.
template <int P, int N>
static inline void tile(const float* panels, const float* x, float* y, long in, long columns, long x_stride,
                        long y_stride, int add) {
    Vector sums[P][N][2] = {};
    for (long i = 0; i < in; i++)
        for (int p = 0; p < P; p++) {
            const float* weights = panels + (p * in + i) * PANEL;
            Vector left = load(weights), right = load(weights + WIDTH);
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
            for (long c = 0; c < here; c++) to[c] = add ? to[c] + found[c] : found[c];
        }
}

template <int P>
static void panels_of(const float* w, const float* x, float* y, long rows, long in, long columns, long x_stride,
                      long y_stride, int add) {
    for (long first = 0; first < rows; first += MOST_ROWS) {
        const float* from = x + first * x_stride;
        float* to = y + first * y_stride;
        switch (rows - first < MOST_ROWS ? rows - first : MOST_ROWS) {
            case 1: tile<P, 1>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 2: tile<P, 2>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 3: tile<P, 3>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 4: tile<P, 4>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 5: tile<P, 5>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 6: tile<P, 6>(w, from, to, in, columns, x_stride, y_stride, add); break;
#if MOST_ROWS > 6
            case 7: tile<P, 7>(w, from, to, in, columns, x_stride, y_stride, add); break;
            case 8: tile<P, 8>(w, from, to, in, columns, x_stride, y_stride, add); break;
#endif
        }
    }
}

extern "C" long panel_width() { return PANEL; }

extern "C" void skinny_product(const float* w, const float* x, float* y, long rows, long in, long out, long x_stride,
                               long y_stride, int add, int threads) {
    long panels = (out + PANEL - 1) / PANEL, at_once = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
    long groups = (panels + at_once - 1) / at_once;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long group = 0; group < groups; group++) {
        long first = group * at_once, here = panels - first < at_once ? panels - first : at_once;
        const float* from = w + first * in * PANEL;
        float* to = y + first * PANEL;
        long columns = out - first * PANEL;
        if (here == 4)
            panels_of<4>(from, x, to, rows, in, columns, x_stride, y_stride, add);
        else if (here == 2)
            panels_of<2>(from, x, to, rows, in, columns, x_stride, y_stride, add);
        else
            for (long p = 0; p < here; p++)
                panels_of<1>(from + p * in * PANEL, x, to + p * PANEL, rows, in, columns - p * PANEL, x_stride,
                             y_stride, add);
    }
}

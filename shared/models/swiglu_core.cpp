// o = f(g)·u with f(x) = x·σ(x), and its backward dg = do·u·f′(g), du = do·f(g), each in one pass over memory.
//
// Arithmetic is float32 whatever the storage type, rounded once. Rows may be strided; an element's bits depend on that
// element alone, wherever it stands.

#include "lanes.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

typedef unsigned short Halves __attribute__((vector_size(WIDTH * 2)));

struct Float32 {
    typedef float Stored;
    static inline Floats load(const float* from) { return ::load(from); }
    static inline void store(Floats value, float* to) { ::store(value, to); }
};

#if defined(__AVX512F__)  // g++ takes these conversions apart
static inline Bits widened(Halves x) { return (Bits)_mm512_cvtepu16_epi32((__m256i)x); }
static inline Halves narrowed(Bits x) { return (Halves)_mm512_cvtepi32_epi16((__m512i)x); }
#else
static inline Bits widened(Halves x) { return __builtin_convertvector(x, Bits); }
static inline Halves narrowed(Bits x) { return __builtin_convertvector(x, Halves); }
#endif

struct Bfloat16 {
    typedef unsigned short Stored;
    static inline Floats load(const unsigned short* from) {
        Halves loaded;
        std::memcpy(&loaded, from, sizeof loaded);
        return (Floats)(widened(loaded) << 16);
    }
    // Nearest, ties to even. What is no number stays none: its low bits are zeros, as all that comes of a bfloat16.
    static inline void store(Floats value, unsigned short* to) {
        Bits bits = (Bits)value;
        Halves rounded = narrowed((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
        std::memcpy(to, &rounded, sizeof rounded);
    }
};

// σ(x) = 1 / (1 + e^−x). Below −87 it is 0, as e^−x leaves the floats; above 87 it is 1 long since.
static inline Floats sigmoid(Floats x) {
    const Floats zero = {}, most = zero + 87.0f;
    Floats found = 1.0f / (1.0f + exp_of(zero - (x < most ? x : most)));
    return x < -87.0f ? zero : found;
}

template <class Type>
static inline void forward_at(const typename Type::Stored* g, const typename Type::Stored* u,
                              typename Type::Stored* o) {
    Floats gate = Type::load(g);
    Type::store(gate * sigmoid(gate) * Type::load(u), o);
}

template <class Type>
static inline void backward_at(const typename Type::Stored* g, const typename Type::Stored* u,
                               const typename Type::Stored* grad, typename Type::Stored* dg,
                               typename Type::Stored* du) {
    Floats gate = Type::load(g), given = Type::load(grad), s = sigmoid(gate), value = gate * s;
    Type::store(given * Type::load(u) * (s + value * (1.0f - s)), dg);
    Type::store(given * value, du);
}

template <class Type>
static void forward_row(const typename Type::Stored* g, const typename Type::Stored* u, typename Type::Stored* o,
                        long width) {
    long i = 0;
    for (; i + WIDTH <= width; i += WIDTH) forward_at<Type>(g + i, u + i, o + i);
    if (i == width) return;
    typename Type::Stored rest[3][WIDTH] = {};  // the same vector operations on what is left over
    std::memcpy(rest[0], g + i, (width - i) * sizeof *g);
    std::memcpy(rest[1], u + i, (width - i) * sizeof *u);
    forward_at<Type>(rest[0], rest[1], rest[2]);
    std::memcpy(o + i, rest[2], (width - i) * sizeof *o);
}

template <class Type>
static void backward_row(const typename Type::Stored* g, const typename Type::Stored* u,
                         const typename Type::Stored* grad, typename Type::Stored* dg, typename Type::Stored* du,
                         long width) {
    long i = 0;
    for (; i + WIDTH <= width; i += WIDTH) backward_at<Type>(g + i, u + i, grad + i, dg + i, du + i);
    if (i == width) return;
    typename Type::Stored rest[5][WIDTH] = {};
    std::memcpy(rest[0], g + i, (width - i) * sizeof *g);
    std::memcpy(rest[1], u + i, (width - i) * sizeof *u);
    std::memcpy(rest[2], grad + i, (width - i) * sizeof *grad);
    backward_at<Type>(rest[0], rest[1], rest[2], rest[3], rest[4]);
    std::memcpy(dg + i, rest[3], (width - i) * sizeof *dg);
    std::memcpy(du + i, rest[4], (width - i) * sizeof *du);
}

template <class Type>
static void forward(const void* g, const void* u, void* o, long rows, long width, long g_stride, long u_stride,
                    int threads) {
    typedef typename Type::Stored Stored;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long row = 0; row < rows; row++)
        forward_row<Type>((const Stored*)g + row * g_stride, (const Stored*)u + row * u_stride,
                          (Stored*)o + row * width, width);
}

template <class Type>
static void backward(const void* g, const void* u, const void* grad, void* dg, void* du, long rows, long width,
                     long g_stride, long u_stride, int threads) {
    typedef typename Type::Stored Stored;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (long row = 0; row < rows; row++)
        backward_row<Type>((const Stored*)g + row * g_stride, (const Stored*)u + row * u_stride,
                           (const Stored*)grad + row * width, (Stored*)dg + row * width, (Stored*)du + row * width,
                           width);
}

extern "C" void forward_float32(const void* g, const void* u, void* o, long rows, long width, long g_stride,
                                long u_stride, int threads) {
    forward<Float32>(g, u, o, rows, width, g_stride, u_stride, threads);
}

extern "C" void forward_bfloat16(const void* g, const void* u, void* o, long rows, long width, long g_stride,
                                 long u_stride, int threads) {
    forward<Bfloat16>(g, u, o, rows, width, g_stride, u_stride, threads);
}

extern "C" void backward_float32(const void* g, const void* u, const void* grad, void* dg, void* du, long rows,
                                 long width, long g_stride, long u_stride, int threads) {
    backward<Float32>(g, u, grad, dg, du, rows, width, g_stride, u_stride, threads);
}

extern "C" void backward_bfloat16(const void* g, const void* u, const void* grad, void* dg, void* du, long rows,
                                  long width, long g_stride, long u_stride, int threads) {
    backward<Bfloat16>(g, u, grad, dg, du, rows, width, g_stride, u_stride, threads);
}

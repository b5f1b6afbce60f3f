// What our kernels share: vectors of floats as wide as this processor's, loads and stores anywhere, sums, e^x.
#pragma once

#include <cstring>

#if defined(__AVX512F__)
#define WIDTH 16
#elif defined(__AVX__)
#define WIDTH 8
#else
#define WIDTH 4
#endif

typedef float Floats __attribute__((vector_size(WIDTH * 4)));
typedef int Ints __attribute__((vector_size(WIDTH * 4)));
typedef unsigned Bits __attribute__((vector_size(WIDTH * 4)));

static inline Floats load(const float* from) {
    Floats loaded;
    std::memcpy(&loaded, from, sizeof loaded);
    return loaded;
}

static inline void store(Floats value, float* to) { std::memcpy(to, &value, sizeof value); }

// The sum of all lanes: halves onto each other, ever narrower.
static inline float sum_of(Floats x) {
#if WIDTH == 16
    auto eight = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
#elif WIDTH == 8
    auto eight = x;
#endif
#if WIDTH >= 8
    auto four = __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
#else
    auto four = x;
#endif
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// e^t for |t| ≤ 87: 2^n·e^r with |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 7, whose error is below a
// float's rounding.
static inline Floats exp_of(Floats t) {
    const float round = 12582912.0f;  // 1.5·2^23: adding and taking it away rounds to integers
    Floats n = (t * 1.44269504f + round) - round;
    Floats r = (t - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
    Floats e = r * 1.98412698e-4f + 1.38888889e-3f;
    e = e * r + 8.33333333e-3f;
    e = e * r + 4.16666667e-2f;
    e = e * r + 0.166666667f;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    return e * (Floats)((__builtin_convertvector(n, Ints) + 127) << 23);
}

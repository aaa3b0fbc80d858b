/* Instance norm of channels-last activations [samples][pixels][channels], float32 or bfloat16 (kept as its 16 bits).
 *
 * PyTorch's own kernels convert such tensors to another layout and back, which costs as much as the convolutions.
 * One sample is one thread's work and fits its cache, and sums run in a fixed order: results do not depend on the
 * number of threads. Statistics are float32, the variance is that of the centred values.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define ROW(i) ((size_t)(i) * channels)

static void load_f32(float *restrict to, const void *from, size_t at, int channels) {
    const float *restrict f = (const float *)from + at;
    for (int c = 0; c < channels; c++) to[c] = f[c];
}

static void store_f32(void *to, size_t at, const float *restrict from, int channels) {
    float *restrict t = (float *)to + at;
    for (int c = 0; c < channels; c++) t[c] = from[c];
}

static void load_bf16(float *restrict to, const void *from, size_t at, int channels) {
    const uint16_t *restrict f = (const uint16_t *)from + at;
    uint32_t *restrict t = (uint32_t *)to;
    for (int c = 0; c < channels; c++) t[c] = (uint32_t)f[c] << 16;
}

static void store_bf16(void *to, size_t at, const float *restrict from, int channels) {
    uint16_t *restrict t = (uint16_t *)to + at;
    const uint32_t *restrict f = (const uint32_t *)from;
    for (int c = 0; c < channels; c++) t[c] = (uint16_t)((f[c] + 0x7fff + ((f[c] >> 16) & 1)) >> 16); /* to even */
}

/* mean, rstd: [samples][channels]; weight, bias: [channels]. */
#define FORWARD(type)                                                                                                  \
    void forward_##type(const void *x, const float *weight, const float *bias, void *y, float *mean, float *rstd,      \
                        int samples, int pixels, int channels, float eps) {                                            \
        _Pragma("omp parallel for schedule(static)") for (int s = 0; s < samples; s++) {                               \
            float row[channels], scale[channels], shift[channels];                                                     \
            float *restrict m = mean + ROW(s), *restrict r = rstd + ROW(s);                                            \
            size_t start = ROW(s) * pixels;                                                                            \
            for (int c = 0; c < channels; c++) m[c] = r[c] = 0;                                                        \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(row, x, start + ROW(p), channels);                                                         \
                for (int c = 0; c < channels; c++) m[c] += row[c];                                                     \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) m[c] /= pixels;                                                         \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(row, x, start + ROW(p), channels);                                                         \
                for (int c = 0; c < channels; c++) r[c] += (row[c] - m[c]) * (row[c] - m[c]);                          \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) {                                                                       \
                r[c] = 1 / sqrtf(r[c] / pixels + eps);                                                                 \
                scale[c] = weight[c] * r[c];                                                                           \
                shift[c] = bias[c] - m[c] * scale[c];                                                                  \
            }                                                                                                          \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(row, x, start + ROW(p), channels);                                                         \
                for (int c = 0; c < channels; c++) row[c] = row[c] * scale[c] + shift[c];                              \
                store_##type(y, start + ROW(p), row, channels);                                                        \
            }                                                                                                          \
        }                                                                                                              \
    }

/* dweight, dbias: [samples][channels], to be summed over samples. */
#define BACKWARD(type)                                                                                                 \
    void backward_##type(const void *dy, const void *x, const float *weight, const float *mean, const float *rstd,     \
                         void *dx, float *dweight, float *dbias, int samples, int pixels, int channels) {              \
        _Pragma("omp parallel for schedule(static)") for (int s = 0; s < samples; s++) {                               \
            float row[channels], grad[channels], scale[channels], slope[channels], shift[channels];                    \
            const float *restrict m = mean + ROW(s), *restrict r = rstd + ROW(s);                                      \
            float *restrict dw = dweight + ROW(s), *restrict db = dbias + ROW(s);                                      \
            size_t start = ROW(s) * pixels;                                                                            \
            for (int c = 0; c < channels; c++) dw[c] = db[c] = 0;                                                      \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(row, x, start + ROW(p), channels);                                                         \
                load_##type(grad, dy, start + ROW(p), channels);                                                       \
                for (int c = 0; c < channels; c++) {                                                                   \
                    db[c] += grad[c];                                                                                  \
                    dw[c] += grad[c] * (row[c] - m[c]);                                                                \
                }                                                                                                      \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) {                                                                       \
                dw[c] *= r[c];                                                                                         \
                scale[c] = weight[c] * r[c];                                                                           \
                slope[c] = -scale[c] * dw[c] * r[c] / pixels;                                                          \
                shift[c] = -scale[c] * db[c] / pixels - slope[c] * m[c];                                               \
            }                                                                                                          \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(row, x, start + ROW(p), channels);                                                         \
                load_##type(grad, dy, start + ROW(p), channels);                                                       \
                for (int c = 0; c < channels; c++) row[c] = grad[c] * scale[c] + row[c] * slope[c] + shift[c];         \
                store_##type(dx, start + ROW(p), row, channels);                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }

FORWARD(f32)
FORWARD(bf16)
BACKWARD(f32)
BACKWARD(bf16)

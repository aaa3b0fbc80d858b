/* Instance norm of channels-last activations [samples][pixels][channels], float32 or bfloat16 (kept as its 16 bits).
 * With side 2 it is followed by ReLU and average pooling of 2x2 pixels: a block of the ConvNet but for its convolution,
 * whose large activations are then read and written once instead of three times. With side 1 it is the norm alone.
 *
 * PyTorch's own kernels convert such tensors to another layout and back, which costs as much as the convolutions.
 * One sample is one thread's work and fits its cache, and sums run in a fixed order: results do not depend on the
 * number of threads. Statistics are float32, the variance is that of the centred values.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define ROW(i) ((size_t)(i) * channels)

static inline void load_f32(float *restrict to, const void *from, size_t at, int channels) {
    const float *restrict f = (const float *)from + at;
    for (int c = 0; c < channels; c++) to[c] = f[c];
}

static inline void store_f32(void *to, size_t at, const float *restrict from, int channels) {
    float *restrict t = (float *)to + at;
    for (int c = 0; c < channels; c++) t[c] = from[c];
}

static inline void load_bf16(float *restrict to, const void *from, size_t at, int channels) {
    const uint16_t *restrict f = (const uint16_t *)from + at;
    uint32_t *restrict t = (uint32_t *)to;
    for (int c = 0; c < channels; c++) t[c] = (uint32_t)f[c] << 16;
}

static inline void store_bf16(void *to, size_t at, const float *restrict from, int channels) {
    uint16_t *restrict t = (uint16_t *)to + at;
    const uint32_t *restrict f = (const uint32_t *)from;
    for (int c = 0; c < channels; c++) { /* to even; what is no number stays none */
        uint32_t rounded = (f[c] + 0x7fff + ((f[c] >> 16) & 1)) >> 16;
        t[c] = (uint16_t)((f[c] & 0x7fffffff) > 0x7f800000 ? f[c] >> 16 | 0x40 : rounded);
    }
}

/* The pixel of number k among those that are pooled to pixel o; width is that of the input. */
static size_t pixel(int o, int k, int side, int width) {
    int across = width / side;
    return (size_t)(o / across * side + k / side) * width + o % across * side + k % side;
}

/* What the norm gives: computed from the difference, in which nothing is lost however large the mean is. */
#define NORMED(c) ((row[c] - m[c]) * scale[c] + bias[c])
/* Its ReLU lets the gradient of a pooled pixel through to this share; like PyTorch's, it lets NaN pass. */
#define PASSED(c) (side == 1 ? grad[c] : NORMED(c) <= 0 ? 0 : grad[c] * share)
#define SETUP                                                                                                          \
    const float *restrict m = mean + ROW(s), *restrict r = rstd + ROW(s);                                              \
    const int of = side * side, outputs = pixels / of;                                                                 \
    const float share = 1.0f / of;                                                                                     \
    size_t start = ROW(s) * pixels, pooled = ROW(s) * outputs;                                                         \
    float row[channels], grad[channels], scale[channels];                                                              \
    for (int c = 0; c < channels; c++) scale[c] = weight[c] * r[c];

/* mean, rstd: [samples][channels]; weight, bias: [channels]; y: [samples][pixels / side^2][channels]. */
#define FORWARD(type)                                                                                                  \
    void forward_##type(const void *x, const float *weight, const float *bias, void *y, float *mean, float *rstd,      \
                        int samples, int pixels, int channels, int width, int side, float eps) {                       \
        _Pragma("omp parallel for schedule(static)") for (int s = 0; s < samples; s++) {                               \
            float *restrict sum = mean + ROW(s), *restrict square = rstd + ROW(s);                                     \
            float first[channels], missed[channels], line[channels];                                                   \
            for (int c = 0; c < channels; c++) sum[c] = square[c] = missed[c] = 0;                                     \
            for (int p = 0; p < pixels; p++) {                                                                         \
                load_##type(first, x, ROW(s) * pixels + ROW(p), channels);                                             \
                for (int c = 0; c < channels; c++) sum[c] += first[c];                                                 \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) sum[c] /= pixels;                                                       \
            for (int start = 0; start < pixels; start += width) { /* sums of sums lose less than one long one */       \
                for (int c = 0; c < channels; c++) line[c] = 0;                                                        \
                for (int p = start; p < start + width; p++) {                                                          \
                    load_##type(first, x, ROW(s) * pixels + ROW(p), channels);                                         \
                    for (int c = 0; c < channels; c++) {                                                               \
                        float centred = first[c] - sum[c];                                                             \
                        missed[c] += centred;                                                                          \
                        line[c] += centred * centred;                                                                  \
                    }                                                                                                  \
                }                                                                                                      \
                for (int c = 0; c < channels; c++) square[c] += line[c];                                               \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) { /* what rounding cost the mean is made good */                        \
                missed[c] /= pixels;                                                                                   \
                sum[c] += missed[c];                                                                                   \
                square[c] = 1 / sqrtf(square[c] / pixels - missed[c] * missed[c] + eps);                               \
            }                                                                                                          \
            SETUP                                                                                                      \
            for (int o = 0; o < outputs; o++) {                                                                        \
                for (int c = 0; c < channels; c++) grad[c] = 0;                                                        \
                for (int k = 0; k < of; k++) {                                                                         \
                    load_##type(row, x, start + ROW(pixel(o, k, side, width)), channels);                              \
                    for (int c = 0; c < channels; c++) {                                                               \
                        float value = NORMED(c);                                                                       \
                        grad[c] += side == 2 && value <= 0 ? 0 : value * share;                                        \
                    }                                                                                                  \
                }                                                                                                      \
                store_##type(y, pooled + ROW(o), grad, channels);                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

/* dweight, dbias: [samples][channels], to be summed over samples. */
#define BACKWARD(type)                                                                                                 \
    void backward_##type(const void *dy, const void *x, const float *weight, const float *bias, const float *mean,     \
                         const float *rstd, void *dx, float *dweight, float *dbias, int samples, int pixels,           \
                         int channels, int width, int side) {                                                          \
        _Pragma("omp parallel for schedule(static)") for (int s = 0; s < samples; s++) {                               \
            SETUP                                                                                                      \
            float by_x[channels], rest[channels];                                                                      \
            float *restrict dw = dweight + ROW(s), *restrict db = dbias + ROW(s);                                      \
            for (int c = 0; c < channels; c++) dw[c] = db[c] = 0;                                                      \
            for (int o = 0; o < outputs; o++) {                                                                        \
                load_##type(grad, dy, pooled + ROW(o), channels);                                                      \
                for (int k = 0; k < of; k++) {                                                                         \
                    load_##type(row, x, start + ROW(pixel(o, k, side, width)), channels);                              \
                    for (int c = 0; c < channels; c++) {                                                               \
                        float g = PASSED(c);                                                                           \
                        db[c] += g;                                                                                    \
                        dw[c] += g * (row[c] - m[c]);                                                                  \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) {                                                                       \
                dw[c] *= r[c];                                                                                         \
                by_x[c] = -scale[c] * dw[c] * r[c] / pixels;                                                           \
                rest[c] = -scale[c] * db[c] / pixels;                                                                  \
            }                                                                                                          \
            for (int o = 0; o < outputs; o++) {                                                                        \
                load_##type(grad, dy, pooled + ROW(o), channels);                                                      \
                for (int k = 0; k < of; k++) {                                                                         \
                    size_t at = start + ROW(pixel(o, k, side, width));                                                 \
                    load_##type(row, x, at, channels);                                                                 \
                    for (int c = 0; c < channels; c++)                                                                 \
                        row[c] = PASSED(c) * scale[c] + (row[c] - m[c]) * by_x[c] + rest[c];                           \
                    store_##type(dx, at, row, channels);                                                               \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

/* The backward pass, differentiated once more. Of its outputs dx, dweight and dbias, u, a and b are the gradients of
 * something: ddy (as dy), ddx (as x) and ddweight ([samples][channels], to be summed over samples) are that thing's by
 * the inputs dy, x and weight. */
#define TWICE(type)                                                                                                    \
    void twice_##type(const void *u, const float *a, const float *b, const void *dy, const void *x,                    \
                      const float *weight, const float *bias, const float *mean, const float *rstd, void *ddy,         \
                      void *ddx, float *ddweight, int samples, int pixels, int channels, int width, int side) {        \
        _Pragma("omp parallel for schedule(static)") for (int s = 0; s < samples; s++) {                               \
            SETUP                                                                                                      \
            float along[channels], out[channels], sum_u[channels], sum_g[channels], ug[channels], ux[channels];        \
            float gx[channels], slope[channels], by_u[channels], by_x[channels], base[channels], rest[channels];       \
            float *restrict dw = ddweight + ROW(s);                                                                    \
            for (int c = 0; c < channels; c++) sum_u[c] = sum_g[c] = ug[c] = ux[c] = gx[c] = 0;                        \
            for (int o = 0; o < outputs; o++) {                                                                        \
                load_##type(grad, dy, pooled + ROW(o), channels);                                                      \
                for (int k = 0; k < of; k++) {                                                                         \
                    size_t at = start + ROW(pixel(o, k, side, width));                                                 \
                    load_##type(row, x, at, channels);                                                                 \
                    load_##type(along, u, at, channels);                                                               \
                    for (int c = 0; c < channels; c++) {                                                               \
                        float hat = (row[c] - m[c]) * r[c], g = PASSED(c);                                             \
                        sum_u[c] += along[c];                                                                          \
                        sum_g[c] += g;                                                                                 \
                        ug[c] += along[c] * g;                                                                         \
                        ux[c] += along[c] * hat;                                                                       \
                        gx[c] += g * hat;                                                                              \
                    }                                                                                                  \
                }                                                                                                      \
            }                                                                                                          \
            for (int c = 0; c < channels; c++) {                                                                       \
                sum_u[c] /= pixels, sum_g[c] /= pixels, ux[c] /= pixels, gx[c] /= pixels;                              \
                ug[c] = ug[c] / pixels - sum_u[c] * sum_g[c] - ux[c] * gx[c];                                          \
                dw[c] = r[c] * pixels * ug[c];                                                                         \
                /* by the gradient: u * scale + (x - mean) * slope + base */                                           \
                slope[c] = r[c] * (a[c] - scale[c] * ux[c]);                                                           \
                base[c] = b[c] - scale[c] * sum_u[c];                                                                  \
                /* by x: u * by_u + gradient * slope + (x - mean) * by_x + rest */                                     \
                by_u[c] = -scale[c] * r[c] * gx[c];                                                                    \
                by_x[c] = -r[c] * (gx[c] * slope[c] + by_u[c] * ux[c] + scale[c] * r[c] * ug[c]);                      \
                rest[c] = -by_u[c] * sum_u[c] - slope[c] * sum_g[c];                                                   \
            }                                                                                                          \
            for (int o = 0; o < outputs; o++) {                                                                        \
                load_##type(grad, dy, pooled + ROW(o), channels);                                                      \
                for (int c = 0; c < channels; c++) out[c] = 0;                                                         \
                for (int k = 0; k < of; k++) {                                                                         \
                    size_t at = start + ROW(pixel(o, k, side, width));                                                 \
                    load_##type(row, x, at, channels);                                                                 \
                    load_##type(along, u, at, channels);                                                               \
                    for (int c = 0; c < channels; c++) {                                                               \
                        float centred = row[c] - m[c], g = PASSED(c);                                                  \
                        float by_gradient = along[c] * scale[c] + centred * slope[c] + base[c];                        \
                        out[c] += side == 2 && NORMED(c) <= 0 ? 0 : by_gradient * share;                               \
                        row[c] = along[c] * by_u[c] + g * slope[c] + centred * by_x[c] + rest[c];                      \
                    }                                                                                                  \
                    store_##type(ddx, at, row, channels);                                                              \
                }                                                                                                      \
                store_##type(ddy, pooled + ROW(o), out, channels);                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }

/* TYPE is given to the compiler; the detour replaces it before it is pasted into names. */
#define OF(kernel, type) kernel(type)
OF(FORWARD, TYPE)
OF(BACKWARD, TYPE)
OF(TWICE, TYPE)

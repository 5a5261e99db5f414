"""Polynomial approximations of the elementary functions, on SIMD vectors of float32 or float64.

Each function takes and gives a vector; the coefficients are minimax fits computed for this file in high precision (of
sin_eighth and cos_eighth Taylor's), then rounded. Worst errors measured, in units in the last place of the exact
result, over all normal results:

    exp       float32 1.8   float64 1.2      exp_negative  float32 0.9   float64 1.0
    log       float32 1.2   float64 0.9      log1p_unit    float32 1.5   float64 1.5
    tanh      float32 2.5   float64 2.7      sigmoid       float32 2.4   float64 2.5
    softplus  float32 2.1   float64 2.1      erf           float32 1.9   float64 2.1
    sin_eighth float32 0.7  float64 0.7      cos_eighth    float32 0.9   float64 0.9

NaN gives NaN, infinities give the exact limits, and a result below the smallest normal number may come out as zero. The
only bit-level facts relied on are that scale multiplies by exactly zero at n = -127 (float32) or -1023 (float64), one
below its range, and that where picks its operand unchanged; the selects written as where(x > c, c, x) are clamps that
keep NaN, whatever minimum and maximum do with it.
"""

from __future__ import annotations

from numbanet.kernels import jit
from numbanet.kernels.cpu.simd import copysign, exponent, fma, mantissa, nearest, scale
from numbanet.kernels.scalar import absolute, where

INF = float("inf")
NAN = float("nan")
LOG2E_F32, TWICE_LOG2E_F32 = 1.4426950216293335, 2.885390043258667
LOG2E_F64, TWICE_LOG2E_F64 = 1.4426950408889634, 2.8853900817779268
# ln 2 in two parts, the high one short so that its products with any exponent are exact
LN2_HIGH_F32, LN2_LOW_F32 = 0.693145751953125, 1.428606765330187e-06
LN2_HIGH_F64, LN2_LOW_F64 = 0.6931471805598903, 5.497923018708371e-14
HALF_LN2_HIGH_F64, HALF_LN2_LOW_F64 = 0.3465735902799736, -9.320943368621517e-16
LN2_F32, HALF_LN2_F32 = 0.6931471824645996, 0.3465735912322998
TINY_F32, TINY_F64 = 2.0**-126, 2.0**-1022


@jit.scalar
def exp_f32(x):
    """exp(x) = 2**n e**r with n = round(x / ln 2), at most 127, so that r lies in [-ln2/2, ln2]; error <= 1.8 ulp.

    At -88 and below n is -127, for which scale multiplies by zero; above the largest finite result the polynomial
    (>= 2) overflows the last product.
    """
    x = where(x < -88.0, -88.0, x)
    n = nearest(x * LOG2E_F32)
    n = where(n > 127.0, 127.0, n)
    r = fma(n, -LN2_HIGH_F32, x)
    r = fma(n, -LN2_LOW_F32, r)
    p = fma(r, 0.0016023829812183976, 0.008341270498931408)
    p = fma(p, r, 0.04162456467747688)
    p = fma(p, r, 0.1666678935289383)
    p = fma(p, r, 0.5000019669532776)
    p = fma(p, r, 1.0)
    p = fma(p, r, 1.0)
    return scale(p, n)


@jit.scalar
def exp_f64(x):
    """exp(x) = 2**n e**r as exp_f32, n at most 1023 and r in [-ln2/2, ln2]; error <= 1.2 ulp."""
    x = where(x < -709.0, -709.0, x)
    n = nearest(x * LOG2E_F64)
    n = where(n > 1023.0, 1023.0, n)
    r = fma(n, -LN2_HIGH_F64, x)
    r = fma(n, -LN2_LOW_F64, r)
    p = fma(r, 2.420170228925268e-09, 2.4904808654713043e-08)
    p = fma(p, r, 2.754977673136463e-07)
    p = fma(p, r, 2.755792715351578e-06)
    p = fma(p, r, 2.480159031904392e-05)
    p = fma(p, r, 0.0001984126905473453)
    p = fma(p, r, 0.0013888888891955547)
    p = fma(p, r, 0.008333333333752059)
    p = fma(p, r, 0.04166666666664598)
    p = fma(p, r, 0.16666666666665902)
    p = fma(p, r, 0.5000000000000002)
    p = fma(p, r, 1.0)
    p = fma(p, r, 1.0)
    return scale(p, n)


@jit.scalar
def log_f32(x):
    """log(x) = e ln2 + log(1 + f), x = 2**e (1 + f) and log(1 + f) = f + f**2 p(f); error <= 1.2 ulp."""
    f = mantissa(x) - 1.0
    p = fma(f, 0.08760903775691986, -0.1432276964187622)
    p = fma(p, f, 0.14916294813156128)
    p = fma(p, f, -0.165684312582016)
    p = fma(p, f, 0.1996196210384369)
    p = fma(p, f, -0.25001826882362366)
    p = fma(p, f, 0.33333954215049744)
    p = fma(p, f, -0.49999991059303284)
    p = fma(f * f, p, f)
    p = fma(exponent(x), LN2_F32, p)
    p = where(x < TINY_F32, -INF, p)
    p = where(x < 0.0, NAN, p)
    return where(x < INF, p, x)


@jit.scalar
def log_f64(x):
    """log(x) = e ln2 + log(1 + f), x = 2**e (1 + f), s = f / (2 + f), z = s**2; error <= 0.9 ulp.

    log(1 + f) = 2 atanh(s) = f - s (f - z p(z)): the quotient's error only meets the small second term.
    """
    m = mantissa(x)
    e = exponent(x)
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    p = fma(z, 0.14795379212791399, 0.15314109425042155)
    p = fma(p, z, 0.18183561941132773)
    p = fma(p, z, 0.22222198621006578)
    p = fma(p, z, 0.28571428741897803)
    p = fma(p, z, 0.3999999999941703)
    p = fma(p, z, 0.6666666666666734)
    p = fma(-z, p, f)
    p = fma(-s, p, e * LN2_LOW_F64) + f
    p = fma(e, LN2_HIGH_F64, p)
    p = where(x < TINY_F64, -INF, p)
    p = where(x < 0.0, NAN, p)
    return where(x < INF, p, x)


@jit.scalar
def log1p_unit_f32(u):
    """log(1 + u) = u + u**2 p(u) for u in [0, 1] only; error <= 1.5 ulp."""
    p = fma(u, 0.005365422461181879, -0.030068300664424896)
    p = fma(p, u, 0.07920882850885391)
    p = fma(p, u, -0.13754187524318695)
    p = fma(p, u, 0.1915384829044342)
    p = fma(p, u, -0.24857217073440552)
    p = fma(p, u, 0.33321329951286316)
    p = fma(p, u, -0.49999648332595825)
    return fma(u * u, p, u)


@jit.scalar
def log1p_unit_f64(u):
    """log(1 + u) = u - s (u - z p(z)), s = u / (2 + u), z = s**2, for u in [0, 1] only; error <= 1.5 ulp."""
    s = u / (u + 2.0)
    z = s * s
    p = fma(z, 0.1773949102199427, 0.09902952523950599)
    p = fma(p, z, 0.1358628736280077)
    p = fma(p, z, 0.1536429848666308)
    p = fma(p, z, 0.18182813882182094)
    p = fma(p, z, 0.22222192911864871)
    p = fma(p, z, 0.2857142905784242)
    p = fma(p, z, 0.3999999999605139)
    p = fma(p, z, 0.6666666666667769)
    return fma(-s, fma(-z, p, u), u)


@jit.scalar
def tanh_f32(x):
    """tanh(x) = h / (h + 1), h = expm1(2 |x|) / 2 = 2**n (expm1(2 y) / 2) + (2**n - 1) / 2; error <= 2.5 ulp.

    n = round(2 |x| / ln2), y = |x| - n ln2/2 in [-ln2/4, ln2/4]; what overflows beyond 9.125 is replaced by one.
    """
    a = absolute(x)
    n = nearest(a * TWICE_LOG2E_F32)
    y = fma(n, -HALF_LN2_F32, a)
    p = fma(y, 0.04428443685173988, 0.13387314975261688)
    p = fma(p, y, 0.33334195613861084)
    p = fma(p, y, 0.6666615605354309)
    p = fma(p, y, 0.9999999403953552)
    p = fma(y * y, p, y)
    t = scale(1.0, n)
    h = fma(t, p, fma(t, 0.5, -0.5))
    return copysign(where(a > 9.125, 1.0, h / (h + 1.0)), x)


@jit.scalar
def tanh_f64(x):
    """tanh(x) = h / (h + 1), h = expm1(2 |x|) / 2 = 2**n (expm1(2 y) / 2) + (2**n - 1) / 2; error <= 2.7 ulp.

    n = round(2 |x| / ln2), y = |x| - n ln2/2 in [-ln2/4, ln2/4]; what overflows beyond 19.1 is replaced by one.
    """
    a = absolute(x)
    n = nearest(a * TWICE_LOG2E_F64)
    y = fma(n, -HALF_LN2_HIGH_F64, a)
    y = fma(n, -HALF_LN2_LOW_F64, y)
    p = fma(y, 2.5469461680126532e-05, 0.00014145423827536518)
    p = fma(p, y, 0.0007054826762222355)
    p = fma(p, y, 0.0031745921406733353)
    p = fma(p, y, 0.012698412305926799)
    p = fma(p, y, 0.04444444459117417)
    p = fma(p, y, 0.13333333333720138)
    p = fma(p, y, 0.33333333333254944)
    p = fma(p, y, 0.6666666666666549)
    p = fma(p, y, 1.000000000000001)
    p = fma(y * y, p, y)
    t = scale(1.0, n)
    h = fma(t, p, fma(t, 0.5, -0.5))
    return copysign(where(a > 19.1, 1.0, h / (h + 1.0)), x)


@jit.scalar
def erf_f32(x):
    """erf(x) = a + a p(a**2) for a = |x| < 1, 1 - q(a)**4 above, one from about 4 on; error <= 1.9 ulp."""
    a = absolute(x)
    a = where(a > 4.375, 4.375, a)
    z = a * a
    p = fma(z, -0.0005673865089192986, 0.004929268267005682)
    p = fma(p, z, -0.026723064482212067)
    p = fma(p, z, 0.11280694603919983)
    p = fma(p, z, -0.37612417340278625)
    p = fma(p, z, 0.12837916612625122)
    q = fma(a, -0.00016667021554894745, 0.0030433768406510353)
    q = fma(q, a, -0.021042048931121826)
    q = fma(q, a, 0.062262214720249176)
    q = fma(q, a, -0.04308588057756424)
    q = fma(q, a, -0.07167884707450867)
    q = fma(q, a, -0.3038051426410675)
    q = fma(q, a, 1.0042425394058228)
    q = q * q
    return copysign(where(a < 1.0, fma(p, a, a), fma(-q, q, 1.0)), x)


@jit.scalar
def erf_f64(x):
    """erf(x) = a + a p(a**2) for a = |x| < 1, 1 - q(a)**8 above, one from about 6 on; error <= 2.1 ulp."""
    a = absolute(x)
    a = where(a > 6.25, 6.25, a)
    z = a * a
    p = fma(z, -7.779469768498819e-10, 1.3710981296870008e-08)
    p = fma(p, z, -1.6206314032612517e-07)
    p = fma(p, z, 1.644713161723282e-06)
    p = fma(p, z, -1.4924712306526633e-05)
    p = fma(p, z, 0.00012055293577157444)
    p = fma(p, z, -0.0008548325929321861)
    p = fma(p, z, 0.005223977606118504)
    p = fma(p, z, -0.026866170643111427)
    p = fma(p, z, 0.11283791670944184)
    p = fma(p, z, -0.3761263890318352)
    p = fma(p, z, 0.12837916709551256)
    q = fma(a, -3.8026974838740823e-13, 1.7019917895668347e-11)
    q = fma(q, a, -3.583053711768231e-10)
    q = fma(q, a, 4.686783971205728e-09)
    q = fma(q, a, -4.203126989634384e-08)
    q = fma(q, a, 2.6667964560735734e-07)
    q = fma(q, a, -1.1882442294048129e-06)
    q = fma(q, a, 3.611073494730572e-06)
    q = fma(q, a, -7.188237639362271e-06)
    q = fma(q, a, 3.840885649227586e-06)
    q = fma(q, a, 8.465215759836336e-05)
    q = fma(q, a, -0.0005176701134275059)
    q = fma(q, a, 0.00019884215896712355)
    q = fma(q, a, 0.006576027007353715)
    q = fma(q, a, -0.0020805555531817565)
    q = fma(q, a, -0.06963368959568121)
    q = fma(q, a, -0.14104664647189605)
    q = fma(q, a, 0.9999999233833442)
    q = q * q
    q = q * q
    return copysign(where(a < 1.0, fma(p, a, a), fma(-q, q, 1.0)), x)


@jit.scalar
def sin_eighth_f32(x):
    """sin(x) for |x| <= pi/4 only, Taylor's series; error <= 0.7 ulp."""
    z = x * x
    p = fma(z, 1 / 362880, -1 / 5040)
    p = fma(p, z, 1 / 120)
    p = fma(p, z, -1 / 6)
    return fma(x * z, p, x)


@jit.scalar
def sin_eighth_f64(x):
    """sin(x) for |x| <= pi/4 only, Taylor's series; error <= 0.7 ulp."""
    z = x * x
    p = fma(z, 1 / 355687428096000, -1 / 1307674368000)
    p = fma(p, z, 1 / 6227020800)
    p = fma(p, z, -1 / 39916800)
    p = fma(p, z, 1 / 362880)
    p = fma(p, z, -1 / 5040)
    p = fma(p, z, 1 / 120)
    p = fma(p, z, -1 / 6)
    return fma(x * z, p, x)


@jit.scalar
def cos_eighth_f32(x):
    """cos(x) for |x| <= pi/4 only, Taylor's series; error <= 0.9 ulp."""
    z = x * x
    p = fma(z, -1 / 3628800, 1 / 40320)
    p = fma(p, z, -1 / 720)
    p = fma(p, z, 1 / 24)
    p = fma(p, z, -1 / 2)
    return fma(p, z, 1.0)


@jit.scalar
def cos_eighth_f64(x):
    """cos(x) for |x| <= pi/4 only, Taylor's series; error <= 0.9 ulp."""
    z = x * x
    p = fma(z, 1 / 20922789888000, -1 / 87178291200)
    p = fma(p, z, 1 / 479001600)
    p = fma(p, z, -1 / 3628800)
    p = fma(p, z, 1 / 40320)
    p = fma(p, z, -1 / 720)
    p = fma(p, z, 1 / 24)
    p = fma(p, z, -1 / 2)
    return fma(p, z, 1.0)

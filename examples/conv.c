/* A convolution, NCHW, stride 1, no padding: y[n][o][i][j] = b[o] + sum over c, k, l of x[n][c][i+k][j+l] w[o][c][k][l]. */
void conv(const float *x, const float *w, const float *b, float *y, int N, int C, int H, int W, int O, int K, int L) {
  int P = H - K + 1, Q = W - L + 1;
  for (int n = 0; n < N; n++)
    for (int o = 0; o < O; o++)
      for (int i = 0; i < P; i++)
        for (int j = 0; j < Q; j++) {
          float sum = b[o];
          for (int c = 0; c < C; c++)
            for (int k = 0; k < K; k++)
              for (int l = 0; l < L; l++) sum += x[((n * C + c) * H + i + k) * W + j + l] * w[((o * C + c) * K + k) * L + l];
          y[((n * O + o) * P + i) * Q + j] = sum;
        }
}

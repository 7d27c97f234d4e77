#include "schedule.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* Inputs of several steps are multiplied at once, to use what was loaded of W several times; what comes of them is to
 * stay in the cache. */
enum { MOST_FED = 48, LEAST_FED = 8, FED_BYTES = 1 << 19 };

static size_t most_fed(const struct layer *layer, size_t count) {
  const size_t fit = FED_BYTES / (layer->blocks * layer->gates * PANEL * sizeof(float));
  const size_t fed = fit > MOST_FED ? MOST_FED : fit < LEAST_FED ? LEAST_FED : fit;
  return count > fed ? count : fed;
}

struct work {
  const struct vectors *vectors;
  const struct layer *layer;
  const struct sequence *sequences;
  size_t count, apart;
  size_t units, width; /* floats of a row's h, and of what W x gives */
  float *fed, *h, *h_next, *c;
  const float **x;
  float **y;
  struct crew *crew;
};

static const struct sequence *of(const struct work *work, size_t row) { return work->sequences + row * work->apart; }

size_t seqport_room(const struct layer *layer, size_t count, int outputs) {
  const size_t units = layer->blocks * PANEL, width = units * layer->gates;
  const size_t fed = most_fed(layer, count);
  const size_t numbers = seqport_aligned(fed * width * sizeof(float)) + 3 * seqport_aligned(count * units * sizeof(float));
  const size_t pointers = seqport_aligned(fed * sizeof(float *));
  return numbers + pointers + (outputs ? seqport_aligned(count * sizeof(float *)) : 0);
}

static void *part(char **room, size_t bytes) {
  void *here = *room;
  *room += seqport_aligned(bytes);
  return here;
}

static void begin(struct work *work) {
  const size_t hidden = work->layer->hidden;
  for (size_t row = 0; row < work->count; row++) {
    const struct sequence *one = of(work, row);
    float *h = work->h + row * work->units, *c = work->c + row * work->units;
    memset(h, 0, work->units * sizeof *h);
    memset(c, 0, work->units * sizeof *c);
    if (one->h_0) memcpy(h, one->h_0, hidden * sizeof *h);
    if (one->c_0) memcpy(c, one->c_0, hidden * sizeof *c);
  }
}

/* The padding of the rows that have ended, those from `from` on; the last one, which has most, comes first. */
struct ended {
  struct padding left; /* first, so that `next_row` finds the rest */
  const struct work *work;
  size_t from, next; /* the row after the next one whose padding is taken */
};

static int next_row(struct padding *padding) {
  struct ended *ended = (struct ended *)padding;
  if (ended->next > ended->from) {
    const struct sequence *one = of(ended->work, --ended->next);
    padding->to = one->padding;
    padding->pieces = one->padded;
    padding->apart = one->padding_apart;
  }
  return padding->pieces != 0;
}

/* The states of the rows from `first` on, which end here, and the zeros behind them unless these come bit by bit. */
static void end(struct work *work, size_t first, size_t last, int bit_by_bit) {
  const size_t bytes = work->layer->hidden * sizeof(float);
  for (size_t row = first; row < last; row++) {
    const struct sequence *one = of(work, row);
    if (one->h_T) memcpy(one->h_T, work->h + row * work->units, bytes);
    if (one->c_T) memcpy(one->c_T, work->c + row * work->units, bytes);
    if (bit_by_bit) continue;
    for (size_t t = 0; t < one->padded; t++) memset(one->padding + (ptrdiff_t)t * one->padding_apart, 0, bytes);
  }
}

struct feeding {
  struct work *work;
  size_t count;
};

static void feed_some(const void *what, size_t first, size_t last) {
  const struct feeding *feeding = what;
  const struct work *work = feeding->work;
  work->vectors->feed(work->layer, work->x, feeding->count, first, last, work->fed);
}

struct stepping {
  const struct vectors *vectors;
  struct step step;
};

static void reset_some(const void *what, size_t first, size_t last) {
  const struct stepping *stepping = what;
  stepping->vectors->reset(&stepping->step, first, last);
}

static void step_some(const void *what, size_t first, size_t last) {
  const struct stepping *stepping = what;
  stepping->vectors->step(&stepping->step, first, last);
}

/* Multiplies the inputs of the steps from t on that fit; says how many steps those are. */
static size_t feed(struct work *work, size_t t, size_t alive) {
  const size_t most = most_fed(work->layer, work->count);
  size_t steps = 0, count = 0;
  while (alive && count + alive <= most) {
    for (size_t row = 0; row < alive; row++) {
      const struct sequence *one = of(work, row);
      work->x[count++] = one->x + (ptrdiff_t)(t + steps) * one->x_apart;
    }
    steps++;
    while (alive && of(work, alive - 1)->steps <= t + steps) alive--;
  }
  struct feeding feeding = {work, count};
  seqport_share(work->crew, feed_some, &feeding, work->layer->blocks * work->layer->gates);
  return steps;
}

void seqport_run(const struct vectors *vectors, const struct layer *layer, const struct sequence *sequences,
                 size_t count, size_t apart, int outputs, void *room, struct crew *crew) {
  struct work work = {.vectors = vectors,
                      .layer = layer,
                      .sequences = sequences,
                      .count = count,
                      .apart = apart,
                      .units = layer->blocks * PANEL,
                      .crew = crew};
  char *left = room;
  work.width = work.units * layer->gates;
  work.fed = part(&left, most_fed(layer, count) * work.width * sizeof(float));
  work.h = part(&left, count * work.units * sizeof(float));
  work.h_next = part(&left, count * work.units * sizeof(float));
  work.c = part(&left, count * work.units * sizeof(float));
  work.x = part(&left, most_fed(layer, count) * sizeof(float *));
  work.y = outputs ? part(&left, count * sizeof(float *)) : NULL;
  begin(&work);
  const int bit_by_bit = count && of(&work, 0)->padding_large;
  struct ended ended = {{NULL, 0, 0, layer->hidden, next_row}, &work, count, count};

  size_t alive = count, fed = 0;
  const float *row_fed = work.fed;
  for (size_t t = 0;; t++) {
    size_t still = alive;
    while (still && of(&work, still - 1)->steps <= t) still--;
    end(&work, still, alive, bit_by_bit);
    ended.from = alive = still;
    if (!alive) break;
    if (!fed) {
      fed = feed(&work, t, alive);
      row_fed = work.fed;
    }
    if (work.y)
      for (size_t row = 0; row < alive; row++) {
        const struct sequence *one = of(&work, row);
        work.y[row] = one->y + (ptrdiff_t)t * one->y_apart;
      }
    struct padding *padding = bit_by_bit && !crew ? &ended.left : NULL; /* of a crew, all members take steps at once */
    struct stepping stepping = {vectors, {layer, alive, row_fed, work.h, work.h_next, work.c, work.y, padding}};
    if (layer->cell == GRU_RESET_BEFORE) seqport_share(crew, reset_some, &stepping, layer->blocks);
    seqport_share(crew, step_some, &stepping, layer->blocks);
    float *before = work.h;
    work.h = work.h_next;
    work.h_next = before;
    row_fed += alive * work.width;
    fed--;
  }
  if (bit_by_bit) {
    vectors->zero(&ended.left, SIZE_MAX);
    _mm_sfence(); /* whoever reads the outputs sees them */
  }
}

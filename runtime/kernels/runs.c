#include "runs.h"

/* What decides who computes what, in multiplications of one thread. A step of few rows takes as long as one of some
 * more, because its weights have to be read all the same; that a crew meets after each step takes about a microsecond,
 * and that threads come at all some five. */
static const double READING_ROWS = 2.5, MEETING = 5e4, COMING = 2.5e5;

/* Weights of both directions that are read at once had better fit into the cache that the threads share. */
enum { SHARED_CACHE = 16 << 20 };

enum way {
  ALONE,   /* one thread computes all */
  APART,   /* each group of rows in each direction has a thread, from the first step to the last */
  TOGETHER /* all threads share each step */
};

struct plan {
  enum way way;
  size_t groups; /* of rows */
};

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* The most groups that rows are put into. */
static size_t most_groups(size_t rows, size_t threads) { return rows ? least(rows, threads) : 1; }

static size_t group_rows(size_t rows, size_t groups) { return (rows + groups - 1) / groups; }

static struct plan plan_of(const struct run *run, size_t threads) {
  const struct plan alone = {ALONE, 1}, shared = {TOGETHER, 1};
  if (threads < 2 || !run->rows) return alone;
  const struct layer *layer = run->layers;
  const struct plan split = {APART, most_groups(run->rows, threads)};
  const double step = (double)(layer->gates * layer->blocks * PANEL) * (double)layer->hidden;
  const double directions = (double)run->directions, longest = (double)run->sequences->steps;
  double all = 0.0, first = 0.0; /* steps of all rows, and of the first group, which has the longest ones */
  for (size_t i = 0; i < run->rows; i++) {
    all += (double)run->sequences[i].steps;
    if (i % split.groups == 0) first += (double)run->sequences[i].steps;
  }
  const double by_one = directions * step * (all + READING_ROWS * longest);
  const double turns = (double)group_rows(split.groups * run->directions, threads);
  const int both = run->directions > 1 && split.groups < threads;
  const double reading = both && 2 * step * sizeof(float) > SHARED_CACHE ? 2 * READING_ROWS : READING_ROWS;
  const double by_rows = COMING + turns * step * (first + reading * longest);
  const double part = (double)group_rows(layer->blocks, least(threads, layer->blocks)) / (double)layer->blocks;
  const double meetings = longest * (layer->cell == GRU_RESET_BEFORE ? 2.0 : 1.0);
  const double by_steps = COMING + directions * (part * step * (all + READING_ROWS * longest) + MEETING * meetings);
  if (by_one <= by_rows && by_one <= by_steps) return alone;
  return by_rows <= by_steps ? split : shared;
}

size_t seqport_run_room(const struct layer *layer, size_t directions, size_t rows, size_t threads, int outputs) {
  const size_t groups = most_groups(rows, threads);
  const size_t split = directions * groups * seqport_room(layer, group_rows(rows, groups), outputs);
  const size_t whole = seqport_room(layer, rows, outputs);
  return split > whole ? split : whole;
}

struct tasks {
  const struct run *run;
  struct plan plan;
  size_t room;
  struct crew *crew;
};

static void run_group(void *what, size_t task) {
  const struct tasks *tasks = what;
  const struct run *run = tasks->run;
  const size_t groups = tasks->plan.groups, direction = task / groups, group = task % groups;
  seqport_run(run->vectors, run->layers + direction, run->sequences + direction * run->rows + group,
              (run->rows - group + groups - 1) / groups, groups, run->outputs, (char *)run->room + task * tasks->room,
              NULL);
}

static void run_shared(void *what, size_t task) {
  (void)task;
  const struct tasks *tasks = what;
  const struct run *run = tasks->run;
  const unsigned place = seqport_arrive(tasks->crew);
  if (place) {
    seqport_follow(tasks->crew, place);
    return;
  }
  for (size_t d = 0; d < run->directions; d++)
    seqport_run(run->vectors, run->layers + d, run->sequences + d * run->rows, run->rows, 1, run->outputs, run->room,
                tasks->crew);
  seqport_dismiss(tasks->crew);
}

OrtStatus *seqport_run_all(const struct run *run, size_t threads, const OrtKernelContext *context) {
  struct tasks tasks = {.run = run, .plan = plan_of(run, threads)};
  const size_t count = tasks.plan.groups * run->directions;
  tasks.room = seqport_room(run->layers, group_rows(run->rows, tasks.plan.groups), run->outputs);
  if (tasks.plan.way == TOGETHER) {
    struct crew crew;
    const size_t members = least(threads, run->layers->blocks);
    seqport_assemble(&crew);
    tasks.crew = &crew;
    return ORT(seqport_api, ort_parallel_for)(context, run_shared, members, members, &tasks);
  }
  if (tasks.plan.way == APART && count > 1)
    return ORT(seqport_api, ort_parallel_for)(context, run_group, count, count, &tasks);
  for (size_t task = 0; task < count; task++) run_group(&tasks, task);
  return NULL;
}

#include "crew.h"

#include <immintrin.h>
#include <sched.h>

/* Looks after which one who waits gives its processor up, and after which the leader takes what others left. */
enum { LOOKS = 4096, PATIENCE = 256 };

static void look_again(unsigned *looks) {
  if (++*looks % LOOKS == 0)
    sched_yield();
  else
    _mm_pause();
}

void seqport_assemble(struct crew *crew) {
  atomic_init(&crew->arrived, 0);
  atomic_init(&crew->piece, 0);
  atomic_init(&crew->over, 0);
  atomic_init(&crew->done, 0);
  crew->number = crew->expected = 0;
  for (unsigned i = 0; i < MOST_MEMBERS; i++) atomic_init(&crew->shares[i].taken, 0);
}

unsigned seqport_arrive(struct crew *crew) { return atomic_fetch_add(&crew->arrived, 1); }

/* A share is taken before the work is looked at: until it is done, the leader waits, and nothing of it changes. */
static void take(struct crew *crew, unsigned share, unsigned long long piece) {
  const unsigned long long number = piece >> 8, shares = piece & 255;
  if (share >= shares) return;
  unsigned long long last = atomic_load_explicit(&crew->shares[share].taken, memory_order_relaxed);
  if (last >= number) return;
  if (!atomic_compare_exchange_strong(&crew->shares[share].taken, &last, number)) return;
  const size_t first = crew->count * share / shares, end = crew->count * (share + 1) / shares;
  if (first < end) crew->fn(crew->what, first, end);
  atomic_fetch_add_explicit(&crew->done, 1, memory_order_release);
}

void seqport_follow(struct crew *crew, unsigned place) {
  unsigned looks = 0;
  for (unsigned long long seen = 0; !atomic_load_explicit(&crew->over, memory_order_acquire);) {
    const unsigned long long piece = atomic_load_explicit(&crew->piece, memory_order_acquire);
    if (piece == seen) {
      look_again(&looks);
      continue;
    }
    looks = 0;
    seen = piece;
    take(crew, place, piece);
  }
}

void seqport_share(struct crew *crew, share_fn fn, const void *what, size_t count) {
  if (!crew) {
    fn(what, 0, count);
    return;
  }
  const unsigned arrived = atomic_load_explicit(&crew->arrived, memory_order_relaxed);
  const unsigned shares = arrived < MOST_MEMBERS ? arrived : MOST_MEMBERS;
  const unsigned long long piece = ++crew->number << 8 | shares;
  crew->fn = fn;
  crew->what = what;
  crew->count = count;
  crew->expected += shares;
  atomic_store_explicit(&crew->piece, piece, memory_order_release);
  take(crew, 0, piece);
  for (unsigned looks = 0; atomic_load_explicit(&crew->done, memory_order_acquire) != crew->expected;) {
    look_again(&looks);
    if (looks == PATIENCE) /* whoever is not at it by now may have lost its processor */
      for (unsigned share = 1; share < shares; share++) take(crew, share, piece);
  }
}

void seqport_dismiss(struct crew *crew) { atomic_store_explicit(&crew->over, 1, memory_order_release); }

/* Threads that share every piece of one sequence of work; one of them leads. */
#ifndef SEQPORT_CREW_H
#define SEQPORT_CREW_H

#include <stdatomic.h>
#include <stddef.h>

enum { MOST_MEMBERS = 64, CACHE_LINE = 64 };

typedef void (*share_fn)(const void *what, size_t first, size_t last);

struct share {
  _Alignas(CACHE_LINE) atomic_ullong taken; /* the last piece of which somebody took this share */
};

struct crew {
  _Alignas(CACHE_LINE) atomic_uint arrived;
  unsigned long long number, expected; /* of pieces, and of their shares: the leader's own */
  _Alignas(CACHE_LINE) atomic_ullong piece; /* its number, and in the last byte into how many shares it is divided */
  atomic_int over;
  share_fn fn; /* of the piece, like what follows */
  const void *what;
  size_t count;
  _Alignas(CACHE_LINE) atomic_ullong done; /* shares, of all pieces so far */
  struct share shares[MOST_MEMBERS];
};

void seqport_assemble(struct crew *crew);

/* For whoever arrives: its place, 0 for the one who is to lead, who calls `seqport_share` and then `seqport_dismiss`. */
unsigned seqport_arrive(struct crew *crew);

/* What everybody else does: takes shares until dismissed. */
void seqport_follow(struct crew *crew, unsigned place);

/* Does fn over 0 … count - 1, shared by those who are there; alone where there is no crew. */
void seqport_share(struct crew *crew, share_fn fn, const void *what, size_t count);

void seqport_dismiss(struct crew *crew);

#endif

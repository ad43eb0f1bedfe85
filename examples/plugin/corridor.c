/* An environment of your own in a shared library, in C: a corridor.
 *
 *   cc -O2 -shared -fPIC -I. -o corridor.so examples/plugin/corridor.c
 *   qfleet train examples/plugin/corridor.txtpb \
 *       --set=environment.plugin.path=./corridor.so
 *
 * (The build makes build/PRESET/plugins/corridor.so of it.)
 *
 * A corridor of `length` cells ("length=8" in the options), a goal in the last
 * one. An episode starts in any other cell.
 *
 * observation  float32[length]: 1 at the agent's cell, else 0
 * actions      0: a cell to the left, illegal in the first one; 1: to the right
 * reward       -0.1 for every step, and beside it 1 for reaching the goal
 * terminated   at the goal
 * truncated    after 10 * length steps
 * optimum      1 - 0.1 * the distance to the goal: on average 1 - 0.05 * length
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envs/plugin_abi.h"

struct qfleet_plugin_environment {
  int32_t length;
  int32_t cell;
  int32_t steps;
  uint64_t random; /* State of the generator. */
};

typedef struct qfleet_plugin_environment Corridor;

/* SplitMix64 (Steele et al. 2014). */
static uint64_t NextRandom(Corridor* corridor) {
  uint64_t z = corridor->random += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static void Observe(const Corridor* corridor, float* observation) {
  for (int32_t i = 0; i < corridor->length; ++i) {
    observation[i] = i == corridor->cell ? 1.0F : 0.0F;
  }
}

static Corridor* Make(const char* options, qfleet_plugin_spec* spec,
                      char* error, size_t error_size) {
  int length = 8;
  char end;
  if (options[0] != '\0' &&
      (sscanf(options, "length=%d%c", &length, &end) != 1 || length < 2 ||
       length > 1000)) {
    snprintf(error, error_size, "allowed is length=2 to length=1000");
    return NULL;
  }
  Corridor* corridor = calloc(1, sizeof(*corridor));
  if (corridor == NULL) {
    snprintf(error, error_size, "out of memory");
    return NULL;
  }
  corridor->length = length;
  spec->dtype = QFLEET_FLOAT32;
  spec->rank = 1;
  spec->shape[0] = length;
  spec->num_actions = 2;
  spec->has_action_mask = 1;
  return corridor;
}

static void Destroy(Corridor* corridor) { free(corridor); }

static void Seed(Corridor* corridor, uint64_t seed) {
  corridor->random = seed;
}

static int Reset(Corridor* corridor, void* observation, char* error,
                 size_t error_size) {
  (void)error;
  (void)error_size;
  corridor->cell =
      (int32_t)(NextRandom(corridor) % (uint64_t)(corridor->length - 1));
  corridor->steps = 0;
  Observe(corridor, observation);
  return 0;
}

static int Step(Corridor* corridor, int32_t action, void* observation,
                qfleet_plugin_step* result, char* error, size_t error_size) {
  (void)error;
  (void)error_size;
  if (action == 1) {
    ++corridor->cell;
  } else if (corridor->cell > 0) {
    --corridor->cell;
  }
  ++corridor->steps;
  result->terminated = corridor->cell == corridor->length - 1;
  result->truncated = corridor->steps >= 10 * corridor->length;
  result->reward = result->terminated ? 0.9F : -0.1F;
  Observe(corridor, observation);
  return 0;
}

static void ActionMask(const Corridor* corridor, uint8_t* mask) {
  mask[0] = corridor->cell > 0;
  mask[1] = 1;
}

static Corridor* Clone(const Corridor* corridor) {
  Corridor* copy = malloc(sizeof(*copy));
  if (copy != NULL) *copy = *corridor;
  return copy;
}

static size_t Save(const Corridor* corridor, void* state, size_t capacity) {
  if (capacity >= sizeof(*corridor)) memcpy(state, corridor, sizeof(*corridor));
  return sizeof(*corridor);
}

static int Load(Corridor* corridor, const void* state, size_t size) {
  Corridor saved;
  if (size != sizeof(saved)) return 1;
  memcpy(&saved, state, sizeof(saved));
  if (saved.length != corridor->length || saved.cell < 0 ||
      saved.cell >= saved.length || saved.steps < 0 ||
      saved.steps > 10 * saved.length) {
    return 1;
  }
  *corridor = saved;
  return 0;
}

const qfleet_plugin* qfleet_get_plugin(void) {
  static const qfleet_plugin plugin = {
      .abi_version = QFLEET_PLUGIN_ABI_VERSION,
      .struct_size = sizeof(qfleet_plugin),
      .make = Make,
      .destroy = Destroy,
      .seed = Seed,
      .reset = Reset,
      .step = Step,
      .action_mask = ActionMask,
      .clone = Clone,
      .save = Save,
      .load = Load,
  };
  return &plugin;
}

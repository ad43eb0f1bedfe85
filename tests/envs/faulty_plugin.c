/* A library that does the one thing wrong that its options name, for tests of
 * what is refused. It counts: the observation is float32[2] of the step's
 * number in the episode, which ends after 5 steps. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "envs/plugin_abi.h"

#ifndef FAULTY_ABI_VERSION
#define FAULTY_ABI_VERSION QFLEET_PLUGIN_ABI_VERSION
#endif

struct qfleet_plugin_environment {
  char fault[32];
  int steps;
};

typedef struct qfleet_plugin_environment Faulty;

static int Is(const Faulty* faulty, const char* fault) {
  return strcmp(faulty->fault, fault) == 0;
}

static void Observe(const Faulty* faulty, float* observation) {
  observation[0] = observation[1] = (float)faulty->steps;
}

static Faulty* Make(const char* options, qfleet_plugin_spec* spec, char* error,
                    size_t error_size) {
  if (strcmp(options, "silent") == 0) return NULL;
  if (strcmp(options, "refuse") == 0) {
    snprintf(error, error_size, "no\nsuch level");
    return NULL;
  }
  Faulty* faulty = calloc(1, sizeof(*faulty));
  snprintf(faulty->fault, sizeof(faulty->fault), "%s", options);
  spec->dtype = Is(faulty, "dtype") ? 3 : QFLEET_FLOAT32;
  spec->rank = Is(faulty, "rank") ? 9 : 1;
  spec->shape[0] = Is(faulty, "extent") ? 0 : 2;
  if (Is(faulty, "huge")) {
    spec->rank = 3;
    spec->shape[0] = spec->shape[1] = spec->shape[2] = INT64_C(1) << 31;
  }
  spec->num_actions = Is(faulty, "actions") ? 0 : 2;
  spec->has_action_mask = strncmp(options, "mask", 4) == 0;
  return faulty;
}

static void Destroy(Faulty* faulty) { free(faulty); }

static void Seed(Faulty* faulty, uint64_t seed) {
  (void)faulty;
  (void)seed;
}

static int Reset(Faulty* faulty, void* observation, char* error,
                 size_t error_size) {
  if (Is(faulty, "reset")) {
    snprintf(error, error_size, "the simulator is not there");
    return 1;
  }
  if (Is(faulty, "second reset") && faulty->steps > 0) return 1;
  faulty->steps = 0;
  Observe(faulty, observation);
  if (Is(faulty, "first observation")) ((float*)observation)[0] = NAN;
  return 0;
}

static int Step(Faulty* faulty, int32_t action, void* observation,
                qfleet_plugin_step* result, char* error, size_t error_size) {
  (void)action;
  ++faulty->steps;
  result->reward = 1;
  result->terminated = faulty->steps == 5;
  Observe(faulty, observation);
  if (faulty->steps < 3) return 0;
  if (Is(faulty, "step")) {
    snprintf(error, error_size, "the simulator has gone");
    return 7;
  }
  if (Is(faulty, "reward")) result->reward = NAN;
  if (Is(faulty, "infinite reward")) result->reward = -INFINITY;
  if (Is(faulty, "observation")) ((float*)observation)[1] = INFINITY;
  return 0;
}

static void ActionMask(const Faulty* faulty, uint8_t* mask) {
  mask[0] = Is(faulty, "mask of 2") && faulty->steps == 3 ? 2 : 1;
  mask[1] = 0;
  if (Is(faulty, "mask of none") && faulty->steps == 3) mask[0] = 0;
  if (faulty->steps == 5) mask[0] = 0; /* Which is allowed. */
}

const qfleet_plugin* qfleet_get_plugin(void) {
  static qfleet_plugin plugin = {
      .abi_version = FAULTY_ABI_VERSION,
      .struct_size = sizeof(qfleet_plugin),
      .make = Make,
      .destroy = Destroy,
      .seed = Seed,
      .reset = Reset,
      .step = Step,
      .action_mask = ActionMask,
  };
#ifdef FAULTY_OLD_TABLE
  plugin.struct_size -= 8;
#endif
#ifdef FAULTY_NO_STEP
  plugin.step = NULL;
#endif
#ifdef FAULTY_NO_TABLE
  return plugin.step == NULL ? &plugin : NULL;
#else
  return &plugin;
#endif
}

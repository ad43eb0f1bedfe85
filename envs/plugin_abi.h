/* The C ABI of environments in shared libraries: what a library has to offer
 * for
 *
 *   environment { plugin { path: "./corridor.so" options: "length=8" } }
 *
 * This header is all that it needs; it includes nothing of qfleet's and is C99
 * as well as C++. The library exports one function:
 *
 *   const qfleet_plugin* qfleet_get_plugin(void) {
 *     static const qfleet_plugin plugin = {
 *         .abi_version = QFLEET_PLUGIN_ABI_VERSION,
 *         .struct_size = sizeof(qfleet_plugin),
 *         .make = Make, .destroy = Destroy, .seed = Seed,
 *         .reset = Reset, .step = Step};
 *     return &plugin;
 *   }
 *
 * examples/plugin/corridor.c is a whole one, docs/plugins.md the guide.
 *
 * Threads: one environment is used by one thread at a time, several perhaps by
 * several threads at once. Nothing may be thrown (C++), and no call may end the
 * process. A library stays loaded once an environment was made.
 *
 * Errors: functions that give an int give 0 if all is well, else they write why
 * into `error`, `error_size` bytes with the final 0. A reset or step that fails
 * ends the actor with that text: nothing of it is stored.
 *
 * Versions: a change that an old library or an old qfleet would get wrong makes
 * the version one larger, and other versions are refused. New functions may
 * come at the end of the table; `struct_size` says how far the library's
 * reaches.
 */

#ifndef QFLEET_ENVS_PLUGIN_ABI_H_
#define QFLEET_ENVS_PLUGIN_ABI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QFLEET_PLUGIN_ABI_VERSION 1
#define QFLEET_PLUGIN_MAX_RANK 8

/* Element types of observations, as in qfleet/v1/tensor.proto. */
enum {
  QFLEET_UINT8 = 1, /* Networks see it divided by 255. */
  QFLEET_FLOAT32 = 4
};

/* What an environment looks like. Zeroed when make is called. */
typedef struct qfleet_plugin_spec {
  int32_t dtype;       /* QFLEET_UINT8 or QFLEET_FLOAT32. */
  int32_t rank;        /* 0 to QFLEET_PLUGIN_MAX_RANK; 0: a single number. */
  int64_t shape[QFLEET_PLUGIN_MAX_RANK]; /* The first `rank` are used, >= 1. */
  int32_t num_actions; /* Actions are 0 .. num_actions - 1; >= 1. */
  int32_t has_action_mask; /* Not 0: the library has action_mask. */
} qfleet_plugin_spec;

typedef struct qfleet_plugin_step {
  float reward;       /* Finite. */
  int32_t terminated; /* Not 0: the episode ended by its own rules. */
  int32_t truncated;  /* Not 0: it was cut, by a limit of steps say. */
} qfleet_plugin_step;

/* One environment; the library's own type. */
typedef struct qfleet_plugin_environment qfleet_plugin_environment;

typedef struct qfleet_plugin {
  uint32_t abi_version; /* QFLEET_PLUGIN_ABI_VERSION */
  uint32_t struct_size; /* sizeof(qfleet_plugin) */

  /* Makes an environment and fills in `spec`, which depends on `options` alone:
   * environment.plugin.options of the config, "" if it is not set. NULL if that
   * cannot be done, with `error` written. */
  qfleet_plugin_environment* (*make)(const char* options,
                                     qfleet_plugin_spec* spec, char* error,
                                     size_t error_size);
  void (*destroy)(qfleet_plugin_environment* environment);

  /* Begins the first episode of a new random sequence, which the seed alone
   * determines; reset is called next. */
  void (*seed)(qfleet_plugin_environment* environment, uint64_t seed);

  /* Begins an episode. Writes all of the first observation: rows of C order,
   * little-endian, finite. */
  int (*reset)(qfleet_plugin_environment* environment, void* observation,
               char* error, size_t error_size);

  /* Takes an action in [0, num_actions); writes the next observation and the
   * result. After the end of an episode reset is called next. */
  int (*step)(qfleet_plugin_environment* environment, int32_t action,
              void* observation, qfleet_plugin_step* result, char* error,
              size_t error_size);

  /* The others may be NULL. */

  /* Which actions are legal at the observation that was written last:
   * mask[action] = 1, or 0 if not, for all num_actions. At least one is, unless
   * that step terminated the episode. NULL: all are. */
  void (*action_mask)(const qfleet_plugin_environment* environment,
                      uint8_t* mask);

  /* An independent copy: same state, same random sequence. */
  qfleet_plugin_environment* (*clone)(
      const qfleet_plugin_environment* environment);

  /* The whole state, the random sequence included, so that a run in one process
   * can be resumed exactly. save gives its size in bytes and writes it if that
   * is at most `capacity`. load gives 0, or another number if the bytes are not
   * a state, and nothing has changed then. Both or neither. */
  size_t (*save)(const qfleet_plugin_environment* environment, void* state,
                 size_t capacity);
  int (*load)(qfleet_plugin_environment* environment, const void* state,
              size_t size);
} qfleet_plugin;

__attribute__((visibility("default"))) const qfleet_plugin* qfleet_get_plugin(
    void);

#ifdef __cplusplus
}
#endif

#endif /* QFLEET_ENVS_PLUGIN_ABI_H_ */

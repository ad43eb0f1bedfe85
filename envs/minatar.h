// The MinAtar games (Young and Tian 2019, "MinAtar: An Atari-Inspired Testbed
// for Thorough and Reproducible Reinforcement Learning Experiments",
// arXiv:1903.03176): Atari games on a board of 10x10 cells, with an action that
// sometimes sticks and difficulty that ramps up.
//
//   QFLEET_ASSIGN_OR_RETURN(auto environment,
//                           MakeMinAtar("MinAtar/Breakout-v0", {}));
//
// Common to all:
//
// observation  float32[channels, 10, 10]: 1 where a channel's thing is, else 0;
//              rows from the top, columns from the left
// actions      0: nothing, 1: left, 2: up, 3: right, 4: down, 5: fire; all are
//              legal in every game, and do nothing where a game has no use for
//              them
// sticky       with probability `sticky_action_probability` the last action
//              that was taken is taken again instead; before an episode's
//              first it is 0
// optimum      not known
//
// The rules are the published ones; what they leave open was measured against
// MinAtar 1.0.15, whose trajectories the tests replay
// (tests/golden/make_minatar_golden.py). Two things differ. Channels come
// first. An episode's first action cannot stick to the last of the episode
// before.
//
// MinAtar/Breakout-v0: keep the ball off the ground, break the bricks.
//
// channels     0: paddle, 1: ball, 2: where the ball was a step before,
//              3: bricks
// actions      left and right move the paddle by a cell along the bottom row
// dynamics     The ball moves diagonally, first from the left or the right end
//              of row 3. It bounces off walls, ceiling and bricks (a brick that
//              is hit within a run of hits stays), and off the paddle: back
//              where it came from if the paddle's edge catches it. The wall of
//              3 rows is new when the ball comes down after the last brick.
// reward       1 for each brick
// terminated   when the ball passes the paddle
// truncated    never
//
// MinAtar/Asterix-v0: collect gold, avoid enemies.
//
// channels     0: player, 1: enemies, 2: where enemies and gold were before
//              they moved last, 3: gold
// actions      left, up, right and down move the player by a cell in rows 1 to
//              8, which is where the others are
// dynamics     Every `spawn_speed` steps an enemy (2 of 3 times) or gold enters
//              on the left or the right of a free row and crosses it, a cell
//              every `move_speed` steps. They begin as 10 and 5 and with
//              difficulty_ramping fall to 1, a step about every hundred.
// reward       1 for each piece of gold
// terminated   when an enemy and the player meet
// truncated    never
//
// MinAtar/Freeway-v0: cross the road, again and again.
//
// channels     0: chicken, 1: cars, 2 to 6: where a car was before it moved
//              last, a channel for each speed; 2 is the fastest
// actions      up and down move the chicken by a cell, once in 3 steps
// dynamics     A car drives in each of the rows 1 to 8, a cell every 2 to 6
//              steps, to the left or to the right, round the board. Whoever it
//              meets begins anew at the bottom. After each crossing the cars
//              have new speeds and directions.
// reward       1 when the chicken reaches the top row, whence it is put at the
//              bottom
// terminated   never
// truncated    after 2501 steps. MinAtar calls this a terminal state; but it is
//              a limit of time that observations do not show, and nothing in
//              the game ends there, so that a value that stops there is one of
//              something else than what is seen. Returns are the same.
// optimum      not known; at most 92, without a car in the way

#ifndef QFLEET_ENVS_MINATAR_H_
#define QFLEET_ENVS_MINATAR_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "envs/environment.h"
#include "qfleet/v1/config.pb.h"

namespace qfleet {

// By its id, "MinAtar/Breakout-v0"; nullptr if it is none of these.
std::unique_ptr<Environment> MakeMinAtar(absl::string_view id,
                                         const v1::MinAtarConfig& options);

}  // namespace qfleet

#endif  // QFLEET_ENVS_MINATAR_H_

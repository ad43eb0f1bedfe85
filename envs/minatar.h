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
//
// MinAtar/Seaquest-v0: shoot fish and submarines, bring up divers in time.
//
// channels     0: the player's front, 1: its back, 2: the player's bullets,
//              3: where fish, submarines and divers were before they moved
//              last, 4: submarines' bullets, 5: fish, 6: submarines, 7: oxygen,
//              a cell of the bottom row for each 20 steps that are left, 8:
//              divers aboard, cells of the bottom row, 9: divers
// actions      left, up, right and down move the player by a cell in rows 0 to
//              8, row 0 being the surface; fire shoots ahead, once in 5 steps
// dynamics     Every `spawn_speed` steps a fish (2 of 3 times) or a submarine
//              comes from the left or the right into one of the rows 1 to 8,
//              unless others swim against it there, and crosses it, a cell
//              every `move_speed` + 1 steps. A diver comes every 30 steps,
//              moves every 6 and is taken aboard where the player meets it, up
//              to 6. Submarines shoot ahead every 11 steps. Bullets fly a cell
//              a step. Under water oxygen lasts for 200 steps. Who surfaces
//              gets it back and loses a diver, or, with 6, all of them; with
//              difficulty_ramping spawn_speed then falls by 1, from 20 to 1,
//              and every other time move_speed, from 5 to 2.
// reward       1 for each fish and submarine that is shot; for 6 divers 1 for
//              each cell of oxygen that is left
// terminated   when an enemy or its bullet meets the player's front, when there
//              is no oxygen, when the player surfaces without a diver
// truncated    never
//
// Bringing up 6 divers leaves -1 aboard, as in MinAtar 1.0.15, though not in
// its description: the next diver makes it 0, with which surfacing is the end.
// Below 0 it is not, and takes one more each time.
//
// MinAtar/SpaceInvaders-v0: shoot the aliens before they are down.
//
// channels     0: cannon, 1: aliens, 2: aliens if they go left, 3: aliens if
//              they go right, 4: the cannon's bullets, 5: the aliens' bullets
// actions      left and right move the cannon by a cell along the bottom row;
//              fire shoots upwards, once in 5 steps
// dynamics     24 aliens, 4 rows of 6, move a cell sideways every 12 steps, or
//              as many as there are aliens, if these are fewer. Where one is at
//              the wall, all come down by a row and turn instead. Every 10
//              steps the lowest of the column nearest to the cannon shoots.
//              Bullets fly a cell a step. After the last alien 24 new ones
//              come; with difficulty_ramping their 12 steps fall by 1 each
//              time, to 6.
// reward       1 for each alien
// terminated   when an alien or its bullet meets the cannon, when an alien
//              would come down from the bottom row
// truncated    never

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

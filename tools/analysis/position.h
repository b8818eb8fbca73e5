/* Positions as people write them. */
#ifndef RV_ANALYSIS_POSITION_H
#define RV_ANALYSIS_POSITION_H

#include "replay/timeline.h"

/* A moment of the timeline's recording from text:
 *
 *   1234567, 1,234,567, 12k, 3.5M, 2G a count of instructions, commas as retro prints them
 *   1,234.2                           after the second delivery of an exception or interrupt there
 *   50%, 0.5                          that part of the recording
 *   start, end
 *   event:N                           where event N of the trace is, counted from 0
 *   console:TEXT                      where the guest had just printed TEXT for the first time
 *   syscall:N                         where system call N begins, as retro syscalls counts them
 *   mark:NAME                         where that mark was put
 *
 * replay is what the timeline was opened with: what was printed where may take a replay. RV_E_USAGE
 * when it is none of these or lies outside the recording. The timeline may be left anywhere. */
int rv_position_find(struct rv_timeline *t, const struct rv_replay_config *replay, const char *text,
                     struct rv_moment *out, struct rv_err *err);

#endif

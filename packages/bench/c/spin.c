// A busy neighbour: burns its processor until it is killed, or its parent ends.
#include <signal.h>
#include <sys/prctl.h>

int main(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (volatile unsigned turns = 0;; turns++) continue;
}

from simulation.harness import run_arm as run_arm_on_flower

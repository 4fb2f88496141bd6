"""What is asked of a network: metrics, objectives, batches."""

from repair_engine.question.objectives.metric import Metric, cell_codes, metric_weights
from repair_engine.question.objectives.objective import BatchPlan, Objective, plan_batches

__all__ = ["BatchPlan", "Metric", "Objective", "cell_codes", "metric_weights", "plan_batches"]

//! As the API server evaluates a `ValidatingAdmissionPolicy`: conditions, variables in their
//! order, then every validation; what cannot be evaluated refuses (`failurePolicy: Fail`).
//!
//! One reading of what is rendered, for the tests of the expressions and for what `warden doctor`
//! says of pods that are there.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Env, Program, extensions};
use serde_json::Value;

use crate::problem::Problem;

/// A policy, ready to be asked.
pub(crate) struct Admission {
    env: Arc<Env>,
    conditions: Vec<(Program, String)>,
    variables: Vec<(String, Program)>,
    validations: Vec<(Program, String)>,
}

impl Admission {
    /// Reads a policy.
    ///
    /// # Errors
    /// If one of its expressions is none.
    pub(crate) fn new(policy: &Value) -> Result<Self, Problem> {
        let failure = |error: String| {
            let name = policy.pointer("/metadata/name").and_then(Value::as_str);
            Problem::new(name.unwrap_or("admission"), error)
        };
        if policy.pointer("/spec/failurePolicy") != Some(&Value::from("Fail")) {
            return Err(failure("its failurePolicy is not Fail".to_owned()));
        }
        let mut env = Env::stdlib();
        // Kubernetes has the same functions on strings.
        env.add_extension(extensions::strings)
            .map_err(|error| failure(error.to_string()))?;
        let programs = |list: &str, named: &str| {
            let entries = policy.pointer(&format!("/spec/{list}"));
            let entries = entries.and_then(Value::as_array).into_iter().flatten();
            let text = |entry: &Value, field: &str| {
                let text = entry.get(field).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            entries
                .map(|entry| {
                    let program = env.compile(&text(entry, "expression"));
                    let program = program.map_err(|error| failure(error.to_string()))?;
                    Ok((program, text(entry, named)))
                })
                .collect::<Result<Vec<_>, Problem>>()
        };
        let conditions = programs("matchConditions", "name")?;
        let variables = programs("variables", "name")?.into_iter();
        let variables = variables.map(|(program, name)| (name, program)).collect();
        let validations = programs("validations", "message")?;
        Ok(Self {
            env: Arc::new(env),
            conditions,
            variables,
            validations,
        })
    }

    /// How many validations there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.validations.len()
    }

    /// The validations that refuse, each with its place and message. A condition that cannot be
    /// evaluated refuses too, unless another one says that the object does not matter.
    pub(crate) fn judge(
        &self,
        object: &Value,
        before: &Value,
        request: &Value,
    ) -> Vec<(usize, String)> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for (name, json) in [
            ("object", object),
            ("oldObject", before),
            ("request", request),
        ] {
            context.add_variable_from_value(name, value(json));
        }
        let conditions = self.conditions.iter();
        let conditions: Vec<_> = conditions
            .map(|(program, name)| (truth(program, &context), name))
            .collect();
        if conditions.iter().any(|(truth, _)| *truth == Some(false)) {
            return Vec::new();
        }
        if let Some((_, name)) = conditions.iter().find(|(truth, _)| truth.is_none()) {
            return vec![(usize::MAX, format!("cannot be evaluated: {name}"))];
        }
        // A variable that cannot be evaluated is missing for the expressions that name it.
        let mut known = HashMap::new();
        for (name, program) in &self.variables {
            context.add_variable_from_value("variables", known.clone());
            if let Ok(found) = program.execute(&context) {
                known.insert(name.clone(), found);
            }
        }
        context.add_variable_from_value("variables", known);
        let judged = self.validations.iter().enumerate();
        judged
            .filter_map(
                |(index, (program, message))| match truth(program, &context) {
                    Some(true) => None,
                    Some(false) => Some((index, message.clone())),
                    None => Some((index, format!("cannot be evaluated: {message}"))),
                },
            )
            .collect()
    }
}

fn truth(program: &Program, context: &Context<'_, '_>) -> Option<bool> {
    match program.execute(context) {
        Ok(cel::Value::Bool(truth)) => Some(truth),
        _ => None,
    }
}

/// JSON's whole numbers are CEL's `int`, as they are for the API server.
fn value(json: &Value) -> cel::Value {
    match json {
        Value::Null => cel::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(other)) => other.into(),
            (None, None) => cel::Value::Null,
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(value).collect::<Vec<_>>().into(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, field)| (key.clone(), value(field)))
            .collect::<HashMap<_, _>>()
            .into(),
    }
}
